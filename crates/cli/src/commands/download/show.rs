//! Plans and results, in words.

use std::fmt::Write as _;

use hub::{Caches, Kind, Plan, Planned};

use super::{super::size, meter::Received};
use crate::progress::eta;

/// How many names a remark shows.
const NAMES_SHOWN: usize = 4;

/// What would be fetched, a line each file.
pub(super) fn plans(plans: &[Plan], caches: &Caches) -> String {
    let mut text = String::new();
    for plan in plans {
        let repo = &plan.request.repo;
        let folder = plan.request.folder.clone();
        let folder = folder.unwrap_or_else(|| caches.hub.join(repo.folder_name()));
        let _ = writeln!(text, "{} {} into {}", noun(repo.kind()), heading(plan), folder.display());
        for file in &plan.files {
            let bytes = file.size_bytes().map_or_else(|| "?".into(), size);
            let (what, more) = match (file.is_here, file.partial_bytes) {
                (true, _) => ("here", String::new()),
                (false, 0) => ("fetch", String::new()),
                (false, partial) => ("go on", format!(" ({} are here)", size(partial))),
            };
            let _ = writeln!(text, "  {what:<6} {bytes:>10}  {}{more}", file.name());
        }
        for remark in remarks(plan) {
            let _ = writeln!(text, "  note: {remark}");
        }
    }
    let all: Option<u64> = plans.iter().map(Plan::missing_bytes).sum();
    let all = all.map_or_else(|| "an unknown amount".into(), size);
    let _ = writeln!(text, "{all} to fetch");
    text
}

/// What a user should know of a plan: what is left out, and what is dangerous.
pub(super) fn remarks(plan: &Plan) -> Vec<String> {
    let mut remarks = Vec::new();
    let id = plan.request.repo.id();
    if !plan.left_out.is_empty() {
        let names = names(plan.left_out.iter());
        let why = "a model is read from one set of weights, and never from pickled ones";
        remarks
            .push(format!("`{id}`: left out: {names}; {why}; ask for them by name to have them"));
    }
    let pickles: Vec<&Planned> = plan.files.iter().filter(|file| file.is_pickle()).collect();
    if !pickles.is_empty() && plan.request.repo.kind() == Kind::Model {
        let names = names(pickles.into_iter());
        remarks.push(format!("`{id}`: pickled, so reading them can run code: {names}"));
    }
    for glob in &plan.idle {
        remarks.push(format!("`{id}`: `{glob}` leaves nothing out, no file matches it"));
    }
    remarks
}

fn names<'a>(files: impl ExactSizeIterator<Item = &'a Planned>) -> String {
    let more = files.len().saturating_sub(NAMES_SHOWN);
    let told = |file: &Planned| match file.size_bytes() {
        Some(bytes) => format!("{} ({})", file.name(), size(bytes)),
        None => file.name().to_owned(),
    };
    let mut text = files.take(NAMES_SHOWN).map(told).collect::<Vec<_>>().join(", ");
    if 0 < more {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Repository, commit and, where it is not one itself, the revision.
fn heading(plan: &Plan) -> String {
    let repo = &plan.request.repo;
    let commit: String = plan.commit.chars().take(8).collect();
    let text = format!("{} at {commit}", repo.id());
    if repo.revision() == plan.commit { text } else { format!("{text} ({})", repo.revision()) }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Model => "model",
        Kind::Dataset => "dataset",
    }
}

/// What is told when a repository is there.
pub(super) struct Summary {
    id: String,
    heading: String,
    files: usize,
    missing: usize,
    bytes: Option<u64>,
}

impl Summary {
    /// The summary of a plan that is about to be carried out.
    pub(super) fn of(plan: &Plan) -> Self {
        let missing: Vec<&Planned> = plan.files.iter().filter(|file| !file.is_here).collect();
        Self {
            id: plan.request.repo.id().to_owned(),
            heading: format!("{} {}", noun(plan.request.repo.kind()), heading(plan)),
            files: plan.files.len(),
            missing: missing.len(),
            bytes: missing.iter().map(|file| file.size_bytes()).sum(),
        }
    }

    /// The repository's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The bytes of all files that are not on this machine as a whole.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// What was done.
    pub(super) fn text(&self, received: &Received) -> String {
        let Self { heading, files, missing, .. } = self;
        if *missing == 0 {
            return format!("{heading}: all {files} files are here already\n");
        }
        let Received { bytes, elapsed } = received;
        format!(
            "{heading}: {missing} of {files} files written, {} fetched in {}\n",
            size(*bytes),
            if elapsed.as_secs() < 60 {
                format!("{:.1}s", elapsed.as_secs_f64())
            } else {
                eta(Some(*elapsed))
            }
        )
    }
}
