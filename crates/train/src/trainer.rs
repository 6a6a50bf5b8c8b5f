//! One optimizer step, one evaluation, one reference pass: what the loop is made of.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use data::tokenize::Example;
use model::{Coefficient, CompletionScore, Policy};
use objectives::{Group, GroupOutcome, Objective, State};

use crate::{
    Error, Watch,
    batches::{Batches, micro_batches},
    imitation,
    metrics::Sums,
    moving::{MovingReference, Unstoppable},
    optimizer::Optimizer,
    recipe::{Evaluation, Finetuning},
    reference::ReferenceStore,
    rows,
    schedule::Schedule,
    stopping::StopWhen,
    watch::Progress,
};

/// Everything that a run trains with.
pub struct Trainer {
    /// The model in training.
    pub policy: Policy,
    /// AdamW's state.
    pub optimizer: Optimizer,
    /// What the loss is.
    pub objective: Objective,
    /// What there is beside it if completions are learned as they are.
    pub finetuning: Option<Finetuning>,
    /// The seed of what is random in a step.
    pub seed: u64,
    /// What the loss remembers.
    pub state: State,
    /// The rate of every step.
    pub schedule: Schedule,
    /// The pairs to train on.
    pub train: Vec<Example>,
    /// The pairs to evaluate on.
    pub held_out: Vec<Example>,
    /// Which pairs make up which step.
    pub batches: Batches,
    /// What the reference says.
    pub reference: ReferenceStore,
    /// The reference itself, if it follows the policy.
    pub moving: Option<MovingReference>,
    /// When to save and what to evaluate for.
    pub routine: Routine,
}

/// What RE-PO thinks of a row's label.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Posterior {
    /// The row.
    pub id: String,
    /// Who labelled it; empty where the rows do not say.
    pub annotator: String,
    /// How likely it is that the label is right.
    pub posterior: f64,
    /// Chosen minus rejected reward.
    pub margin: f64,
}

/// What is said of a row, its completions in their order: the chosen one first.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Judged {
    /// The row.
    pub id: String,
    /// Log-probability of each completion, in nats.
    pub logps: Vec<f64>,
    /// Scored tokens of each completion.
    pub tokens: Vec<u32>,
    /// Implicit reward of each completion.
    pub rewards: Vec<f64>,
    /// What the row costs.
    pub loss: f64,
}

/// What an optimizer step came to.
pub struct Stepped {
    /// Sums over its rows; the loss is their mean.
    pub sums: Sums,
    /// L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// How long it took from the whole gradient to new weights.
    pub update: Duration,
}

/// When a run saves and evaluates.
#[derive(Clone, Debug)]
pub struct Routine {
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Evaluation, where there is data for it.
    pub evaluation: Option<Evaluation>,
    /// Tokens in memory at once.
    pub tokens_per_micro_batch: usize,
    /// Guards that end the run.
    pub stop_when: StopWhen,
}

impl Trainer {
    /// Optimizer steps of the run.
    pub fn total_steps(&self) -> u64 {
        self.batches.total_steps()
    }

    /// Steps between checkpoints.
    pub fn save_steps(&self) -> u64 {
        self.routine.save_steps
    }

    /// What evaluations are for, if there are any.
    pub fn evaluation(&self) -> Option<&Evaluation> {
        self.routine.evaluation.as_ref()
    }

    /// Passes over the data done after a step, with the fraction of the current one.
    pub fn epoch(&self, step: u64) -> f64 {
        self.batches.epoch(step)
    }

    /// Passes over the data that the run starts, the last of which it may not complete.
    pub fn epochs(&self) -> u64 {
        self.batches.epochs()
    }

    /// Floating-point operations over that many tokens, as transformers estimates them.
    pub fn flops(&self, tokens: u64) -> f64 {
        6.0 * self.policy.config().parameter_count() as f64 * tokens as f64
    }

    /// The rate of a step, counted from 1.
    pub fn learning_rate(&self, step: u64) -> f64 {
        self.schedule.rate(step - 1)
    }

    /// One optimizer step.
    ///
    /// An objective that looks at all rows of a step gets them all at once: they are scored first,
    /// and again when their gradients are computed.
    ///
    /// Returns `None`, with nothing changed, if the watcher asked to stop on the way.
    ///
    /// # Errors
    ///
    /// A loss or a gradient that is not finite; nothing was updated then.
    pub fn step(&mut self, step: u64, watch: &mut dyn Watch) -> Result<Option<Stepped>, Error> {
        let rows = self.batches.of_step(step);
        if !self.complete_window(step, watch)? {
            return Ok(None);
        }
        let mut state = self.state.clone();
        state.epoch = self.batches.epoch(step);
        let mut sums = Sums::default();
        let mut together = None;
        let tokens = match self.finetuning {
            Some(_) => rows.iter().map(|row| imitation::scored(&self.train[*row])).sum(),
            None => 0,
        };
        if self.finetuning.is_none() && self.objective.is_batch_coupled() {
            let Some(scores) = self.score_all(&rows, watch)? else { return Ok(None) };
            let groups = self.groups(&self.train, &rows, &scores)?;
            let judged = self.objective.evaluate(&mut state, &groups);
            sums.kl = judged.kl;
            together = Some(judged.groups);
        }
        let mut done = 0;
        for mut batch in micro_batches(&self.train, &rows, self.routine.tokens_per_micro_batch) {
            if watch.interrupted() {
                self.policy.arena_mut().clear_gradients();
                return Ok(None);
            }
            if let Some(finetuning) = self.finetuning {
                let settings = (finetuning.lora_dropout, self.seed, step);
                batch.rows.dropout = imitation::dropout(&batch.rows, &batch.pairs, settings);
            }
            let pending = self.policy.forward(&batch.rows)?;
            let scores = by_row(&self.train, &batch.pairs, &pending.scores().completions);
            let outcomes = match &together {
                Some(all) => all[done..][..batch.pairs.len()].to_vec(),
                None if self.finetuning.is_some() => {
                    imitation::outcomes(&scores, (rows.len(), tokens))
                }
                None => {
                    let groups = self.groups(&self.train, &batch.pairs, &scores)?;
                    self.objective.evaluate(&mut state, &groups).groups
                }
            };
            done += batch.pairs.len();
            let examples = || batch.pairs.iter().map(|row| &self.train[*row]);
            check_finite(step, examples(), &outcomes)?;
            for ((example, scores), outcome) in examples().zip(&scores).zip(&outcomes) {
                sums.add(example, scores, outcome);
            }
            let share = 1.0 / rows.len() as f64;
            let coefficients: Vec<Coefficient> = examples()
                .zip(&outcomes)
                .flat_map(|(example, outcome)| rows::coefficients(example, outcome, share))
                .collect();
            self.policy.backward(&batch.rows, pending, &coefficients);
        }
        let updating = Instant::now();
        let norm = Optimizer::gradient_norm(self.policy.device(), &self.policy);
        if !norm.is_finite() {
            let ids = rows.iter().map(|row| self.train[*row].id.clone()).collect();
            return Err(Error::GradientNotFinite { step, ids });
        }
        self.optimizer.step(&mut self.policy, self.schedule.rate(step - 1), norm);
        self.state = state;
        Ok(Some(Stepped { sums, gradient_norm: norm, update: updating.elapsed() }))
    }

    /// Lets a reference that follows the policy take its way after a step, if it is due.
    pub fn move_reference(&mut self, step: u64) {
        if let Some(moving) = self.moving.as_mut().filter(|moving| moving.is_due(step)) {
            moving.follow(&self.policy);
            self.reference = ReferenceStore::in_memory();
        }
    }

    /// Asks a reference that moved for the rows of all steps until it moves again.
    fn complete_window(&mut self, step: u64, watch: &mut dyn Watch) -> Result<bool, Error> {
        let Some(moving) = &self.moving else { return Ok(true) };
        let rows = self.batches.of_step(step);
        let now = rows.iter().map(|row| &self.train[*row]);
        if MovingReference::knows(&self.reference, now, self.objective.needs().tails) {
            return Ok(true);
        }
        let steps = moving.window(step).take_while(|step| *step <= self.batches.total_steps());
        let rows: BTreeSet<usize> = steps.flat_map(|step| self.batches.of_step(step)).collect();
        let needed: Vec<Example> = rows.iter().map(|row| self.train[*row].clone()).collect();
        self.complete(&needed, watch)
    }

    fn complete(&mut self, needed: &[Example], watch: &mut dyn Watch) -> Result<bool, Error> {
        let Some(moving) = &mut self.moving else { return Ok(true) };
        let needed = (needed, self.objective.needs().tails);
        let budget = self.routine.tokens_per_micro_batch;
        let store = &mut self.reference;
        moving.stand_in(&mut self.policy, |policy| {
            complete_reference(store, (policy, true), needed, budget, watch)
        })
    }

    /// Asks a reference that moved for the held-out rows.
    ///
    /// # Errors
    ///
    /// A token that the model does not have.
    pub fn complete_held_out(&mut self, watch: &mut dyn Watch) -> Result<(), Error> {
        if self.moving.is_some() {
            let needed = self.held_out.clone();
            self.complete(&needed, &mut Unstoppable(watch))?;
        }
        Ok(())
    }

    /// Asks a reference that moved for all rows that the run trains on.
    ///
    /// # Errors
    ///
    /// A token that the model does not have.
    pub fn complete_visited(&mut self, watch: &mut dyn Watch) -> Result<(), Error> {
        if self.moving.is_some() {
            let rows = self.batches.visited();
            let needed: Vec<Example> = rows.iter().map(|row| self.train[*row].clone()).collect();
            self.complete(&needed, &mut Unstoppable(watch))?;
        }
        Ok(())
    }

    /// Scores rows without gradients; `None` if the watcher asked to stop on the way.
    fn score_all(
        &self,
        rows: &[usize],
        watch: &dyn Watch,
    ) -> Result<Option<Vec<Vec<CompletionScore>>>, Error> {
        let mut all = Vec::with_capacity(rows.len());
        for batch in micro_batches(&self.train, rows, self.routine.tokens_per_micro_batch) {
            if watch.interrupted() {
                return Ok(None);
            }
            let scores = self.policy.score(&batch.rows, true)?.completions;
            all.extend(by_row(&self.train, &batch.pairs, &scores));
        }
        Ok(Some(all))
    }

    /// Scores the held-out rows; `adapter: false` is the model under its adapter.
    ///
    /// # Errors
    ///
    /// A reference value that is missing.
    pub fn evaluate(&self, adapter: bool, watch: &mut dyn Watch) -> Result<Sums, Error> {
        Ok(self.judge(adapter, watch)?.0)
    }

    /// The same, with what is said of each row.
    ///
    /// # Errors
    ///
    /// A reference value that is missing.
    pub fn judge(
        &self,
        adapter: bool,
        watch: &mut dyn Watch,
    ) -> Result<(Sums, Vec<Judged>), Error> {
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let mut scores = Vec::with_capacity(all.len());
        for batch in micro_batches(&self.held_out, &all, self.routine.tokens_per_micro_batch) {
            let scored = self.policy.score(&batch.rows, adapter)?.completions;
            scores.extend(by_row(&self.held_out, &batch.pairs, &scored));
            watch.progress(&Progress::Evaluation { done: scores.len(), total: all.len() });
        }
        let mut sums = Sums::default();
        let outcomes = if self.finetuning.is_some() {
            let tokens = self.held_out.iter().map(imitation::scored).sum();
            imitation::outcomes(&scores, (all.len(), tokens))
        } else {
            let groups = self.groups(&self.held_out, &all, &scores)?;
            let judged = self.objective.evaluate(&mut self.state.clone(), &groups);
            sums.kl = judged.kl;
            judged.groups
        };
        let mut rows = Vec::with_capacity(all.len());
        for ((example, scores), outcome) in self.held_out.iter().zip(&scores).zip(&outcomes) {
            sums.add(example, scores, outcome);
            rows.push(Judged {
                id: example.id.clone(),
                logps: scores.iter().map(|score| score.logp).collect(),
                tokens: scores.iter().map(|score| score.token_count).collect(),
                rewards: outcome.rewards.clone(),
                loss: outcome.loss,
            });
        }
        Ok((sums, rows))
    }

    /// How likely each row's label is right, by RE-PO under the weights as they are; least likely
    /// first. Empty for other objectives.
    ///
    /// # Errors
    ///
    /// A reference value that is missing.
    pub fn posteriors(&self) -> Result<Vec<Posterior>, Error> {
        if self.objective.modifiers.reliability.is_none() {
            return Ok(Vec::new());
        }
        let all = self.batches.visited();
        let mut scores = Vec::with_capacity(all.len());
        for batch in micro_batches(&self.train, &all, self.routine.tokens_per_micro_batch) {
            let scored = self.policy.score(&batch.rows, true)?.completions;
            scores.extend(by_row(&self.train, &batch.pairs, &scored));
        }
        let groups = self.groups(&self.train, &all, &scores)?;
        let judged = self.objective.evaluate(&mut self.state.clone(), &groups).groups;
        let posterior = |((row, group), outcome): ((&usize, &Group), &GroupOutcome)| Posterior {
            id: self.train[*row].id.clone(),
            annotator: group.annotator.clone(),
            posterior: outcome.posterior.unwrap_or(f64::NAN),
            margin: outcome.margin(),
        };
        let mut posteriors: Vec<Posterior> =
            all.iter().zip(&groups).zip(&judged).map(posterior).collect();
        posteriors.sort_by(|left, right| left.posterior.total_cmp(&right.posterior));
        Ok(posteriors)
    }

    /// The objective's view of rows.
    fn groups(
        &self,
        examples: &[Example],
        rows: &[usize],
        scores: &[Vec<CompletionScore>],
    ) -> Result<Vec<Group>, Error> {
        let needs = self.objective.needs();
        let group = |(row, scores): (&usize, &Vec<CompletionScore>)| {
            let example = &examples[*row];
            let group = rows::group(example, scores, needs, |key| self.reference.get(key));
            let is_known = group.completions.iter().all(|it| it.reference_logp.is_finite());
            if is_known { Ok(group) } else { Err(Error::NoReference { id: example.id.clone() }) }
        };
        rows.iter().zip(scores).map(group).collect()
    }
}

/// Scores of a micro-batch, row by row.
fn by_row(
    examples: &[Example],
    rows: &[usize],
    scores: &[CompletionScore],
) -> Vec<Vec<CompletionScore>> {
    let mut rest = scores;
    let take = |row: &usize| {
        let (own, others) = rest.split_at(examples[*row].completions.len());
        rest = others;
        own.to_vec()
    };
    rows.iter().map(take).collect()
}

/// Stops a step whose loss is not finite, and names the row.
fn check_finite<'a>(
    step: u64,
    examples: impl Iterator<Item = &'a Example>,
    outcomes: &[GroupOutcome],
) -> Result<(), Error> {
    for (example, outcome) in examples.zip(outcomes) {
        let is_finite = outcome.coefficients.iter().all(|value| value.is_finite());
        if !(is_finite && outcome.loss.is_finite()) {
            let id = example.id.clone();
            return Err(Error::LossNotFinite { step, id, loss: outcome.loss });
        }
    }
    Ok(())
}

/// Scores what the store lacks: the completions of `needed` under the reference, and their tails
/// where the objective needs them.
///
/// Returns false if the watcher asked to stop on the way; what was scored is kept.
///
/// # Errors
///
/// A store that cannot be written.
pub fn complete_reference(
    store: &mut ReferenceStore,
    (policy, adapter): (&Policy, bool),
    (needed, tails): (&[Example], bool),
    tokens_per_micro_batch: usize,
    watch: &mut dyn Watch,
) -> Result<bool, Error> {
    let keys = |example: &Example| {
        let tails = if tails { rows::tail_keys(example) } else { Vec::new() };
        rows::entry_keys(example).into_iter().chain(tails.into_iter().flatten())
    };
    let is_missing = |example: &Example| keys(example).any(|key| store.get(&key).is_none());
    let missing: Vec<usize> =
        (0..needed.len()).filter(|index| is_missing(&needed[*index])).collect();
    if 0 < store.damaged() && !missing.is_empty() {
        let told = "of the reference's log-probabilities kept of earlier runs are damaged; what is needed of them is computed again";
        watch.note(&format!("{} {told}", store.damaged()));
    }
    let mut done = 0;
    for batch in micro_batches(needed, &missing, tokens_per_micro_batch) {
        if watch.interrupted() {
            return Ok(false);
        }
        let scores = policy.score(&batch.rows, adapter)?.completions;
        let mut new = Vec::with_capacity(2 * scores.len());
        for (row, scores) in batch.pairs.iter().zip(by_row(needed, &batch.pairs, &scores)) {
            let entries = rows::entry_keys(&needed[*row]);
            new.extend(entries.into_iter().zip(scores.iter().map(|score| score.logp)));
            if tails {
                let tails = rows::tail_keys(&needed[*row]).into_iter().zip(&scores);
                new.extend(tails.filter_map(|(key, score)| Some((key?, score.tail_logp))));
            }
        }
        store.insert(&new)?;
        done += batch.pairs.len();
        watch.progress(&Progress::Reference { done, total: missing.len() });
    }
    Ok(true)
}
