//! `trueup download`: models and datasets from the hub, into its cache or into folders.

mod meter;
mod show;
mod supervise;

use std::{path::Path, sync::Arc};

use hub::{Caches, Client, Downloads, Glob, Kind, Plan, Repo, Request, Selection, Settings};

use self::{meter::Meter, supervise::supervised};
use crate::{
    args::{Download, RepoType},
    environment,
    failure::Failure,
    signals::Signals,
    terminal::Terminal,
};

/// Fetches what the arguments or a file ask for; the folders go to stdout.
pub(super) fn run(args: &Download, terminal: &mut Terminal) -> Result<(), Failure> {
    let caches = environment::caches()?;
    let (requests, token) = wanted(args)?;
    let mut settings = Settings::from_environment(&environment::lookup);
    settings.token = token.or(settings.token);
    let client = Arc::new(Client::new(settings)?);
    if client.settings().offline {
        return offline(&caches, &requests, terminal);
    }
    let session = Session { client, caches, signals: Signals::listen()? };
    // All plans first, so that nothing is fetched for a list of which an entry is wrong.
    let plans = requests
        .into_iter()
        .map(|request| session.plan(request, terminal))
        .collect::<Result<Vec<Plan>, Failure>>()?;
    if args.dry_run {
        return terminal.data(&show::plans(&plans, &session.caches));
    }
    for plan in plans {
        for remark in show::remarks(&plan) {
            terminal.note(&remark);
        }
        session.fetch(plan, args.verbose, terminal)?;
    }
    Ok(())
}

/// The repositories, and the token if the arguments or the file have one.
fn wanted(args: &Download) -> Result<(Vec<Request>, Option<String>), Failure> {
    let given = args.token.clone().filter(|token| !token.is_empty());
    if let Some(path) = &args.config {
        let (requests, token) = from_file(path, args, given.is_none())?;
        return Ok((requests, given.or(token)));
    }
    let kind = match args.repo_type {
        RepoType::Model => Kind::Model,
        RepoType::Dataset => Kind::Dataset,
    };
    let mut repo = Repo::new(kind, args.repo.as_deref().unwrap_or_default())?;
    if let Some(revision) = &args.revision {
        repo = repo.at(revision)?;
    }
    let globs = |texts: &[String]| texts.iter().map(|text| Glob::new(text)).collect::<Vec<_>>();
    let selection = if args.include.is_empty() {
        Selection::usual(kind)
    } else {
        Selection::Matching(globs(&args.include))
    };
    let (exclude, folder) = (globs(&args.exclude), args.local_dir.clone());
    Ok((vec![Request { repo, selection, exclude, folder }], given))
}

/// What a file lists, without what the flags leave out.
fn from_file(
    path: &Path,
    args: &Download,
    with_token: bool,
) -> Result<(Vec<Request>, Option<String>), Failure> {
    let downloads = Downloads::parse(path, &fs_err::read_to_string(path)?)?;
    let token = if with_token { downloads.token(&environment::lookup)? } else { None };
    let mut requests = downloads.requests;
    for (is_set, wanted, kind) in
        [(args.models_only, Kind::Model, "models"), (args.datasets_only, Kind::Dataset, "datasets")]
    {
        requests.retain(|request| !is_set || request.repo.kind() == wanted);
        if requests.is_empty() {
            return Err(Failure::NothingToFetch { path: path.into(), kind });
        }
    }
    Ok((requests, token))
}

/// Gives what the cache has as a whole.
fn offline(caches: &Caches, requests: &[Request], terminal: &Terminal) -> Result<(), Failure> {
    let mut folders = Vec::new();
    for request in requests {
        let id = request.repo.id();
        let kept = hub::kept(caches, request)?.filter(|_| request.folder.is_none());
        let folder = kept.ok_or_else(|| hub::Error::Offline { what: id.into() })?;
        terminal.note(&format!("offline: `{id}` is taken from the cache as it is"));
        folders.push(format!("{}\n", folder.display()));
    }
    terminal.data(&folders.concat())
}

/// What all downloads of a call share.
struct Session {
    client: Arc<Client>,
    caches: Caches,
    signals: Signals,
}

impl Session {
    fn plan(&self, request: Request, terminal: &mut Terminal) -> Result<Plan, Failure> {
        let (client, caches) = (self.client.clone(), self.caches.clone());
        let name = request.repo.id().to_owned();
        let mut meter = Meter::new(terminal, &name, None, false);
        let job = move |watch: hub::Watch<'_>| hub::plan(&client, &caches, &request, watch);
        let plan = supervised(&self.signals, &mut |news| meter.show(news), job);
        meter.end(false);
        plan
    }

    fn fetch(&self, plan: Plan, is_verbose: bool, terminal: &mut Terminal) -> Result<(), Failure> {
        let (client, caches) = (self.client.clone(), self.caches.clone());
        let summary = show::Summary::of(&plan);
        let mut meter = Meter::new(terminal, summary.id(), summary.bytes(), is_verbose);
        let job = move |watch: hub::Watch<'_>| plan.run(&client, &caches, watch);
        let folder = supervised(&self.signals, &mut |news| meter.show(news), job);
        let received = meter.end(folder.is_ok());
        let folder = folder?;
        terminal.print(&summary.text(&received));
        terminal.data(&format!("{}\n", folder.display()))
    }
}
