//! One optimizer step, one evaluation, one reference pass: what the loop is made of.

use data::tokenize::Example;
use model::{CompletionScore, Policy};
use objectives::{Completion, Group, GroupOutcome, Objective, State};

use crate::{
    Error, Watch,
    batches::{Batches, micro_batches},
    metrics::Sums,
    optimizer::Optimizer,
    recipe::Evaluation,
    reference::{EntryKey, ReferenceStore, entry_key},
    schedule::Schedule,
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
    /// When to save and what to evaluate for.
    pub routine: Routine,
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

    /// One optimizer step: the mean of its pairs' losses, and the gradient's norm before clipping.
    ///
    /// Returns `None`, with nothing changed, if the watcher asked to stop on the way.
    ///
    /// # Errors
    ///
    /// A loss or a gradient that is not finite; nothing was updated then.
    pub fn step(&mut self, step: u64, watch: &mut dyn Watch) -> Result<Option<(Sums, f64)>, Error> {
        let pairs = self.batches.of_step(step);
        let mut sums = Sums::default();
        for batch in micro_batches(&self.train, &pairs, self.routine.tokens_per_micro_batch) {
            if watch.interrupted() {
                self.policy.arena_mut().clear_gradients();
                return Ok(None);
            }
            let pending = self.policy.forward(&batch.rows)?;
            let scores = &pending.scores().completions;
            let mut state = std::mem::take(&mut self.state);
            let outcomes =
                self.judge((&self.train, &batch.pairs), scores, &mut state, &mut sums)?;
            self.state = state;
            let ids: Vec<&str> = batch.pairs.iter().map(|pair| &*self.train[*pair].id).collect();
            check_finite(step, &ids, &outcomes)?;
            let share = 1.0 / pairs.len() as f64;
            let coefficients: Vec<f64> = outcomes
                .iter()
                .flat_map(|outcome| &outcome.coefficients)
                .map(|c| c * share)
                .collect();
            self.policy.backward(&batch.rows, pending, &coefficients);
        }
        let norm = Optimizer::gradient_norm(self.policy.device(), &self.policy);
        if !norm.is_finite() {
            let ids = pairs.iter().map(|pair| self.train[*pair].id.clone()).collect();
            return Err(Error::GradientNotFinite { step, ids });
        }
        self.optimizer.step(&mut self.policy, self.schedule.rate(step - 1), norm);
        Ok(Some((sums, norm)))
    }

    /// Scores the held-out pairs; `adapter: false` is the model under its adapter.
    ///
    /// # Errors
    ///
    /// A reference value that is missing.
    pub fn evaluate(&self, adapter: bool, watch: &mut dyn Watch) -> Result<Sums, Error> {
        let all: Vec<usize> = (0..self.held_out.len()).collect();
        let mut sums = Sums::default();
        let mut state = self.state.clone();
        let mut done = 0;
        for batch in micro_batches(&self.held_out, &all, self.routine.tokens_per_micro_batch) {
            let scores = self.policy.score(&batch.rows, adapter)?.completions;
            self.judge((&self.held_out, &batch.pairs), &scores, &mut state, &mut sums)?;
            done += batch.pairs.len();
            watch.progress(&Progress::Evaluation { done, total: all.len() });
        }
        Ok(sums)
    }

    /// The objective's view of a micro-batch, two scores a pair; adds it to the sums.
    fn judge(
        &self,
        (examples, pairs): (&[Example], &[usize]),
        scores: &[CompletionScore],
        state: &mut State,
        sums: &mut Sums,
    ) -> Result<Vec<GroupOutcome>, Error> {
        let sides = || pairs.iter().map(|pair| &examples[*pair]).zip(scores.chunks_exact(2));
        let groups = sides().map(|(example, scores)| self.group(example, scores));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let outcomes = self.objective.evaluate(state, &groups).groups;
        for ((example, scores), outcome) in sides().zip(&outcomes) {
            let side = |index: usize| (&scores[index], outcome.rewards[index]);
            sums.add(outcome.loss, side(0), side(1));
            let completions: usize = example.completions.iter().map(Vec::len).sum();
            sums.tokens += (2 * example.prompt.len() + completions) as u64;
        }
        Ok(outcomes)
    }

    fn group(&self, example: &Example, scores: &[CompletionScore]) -> Result<Group, Error> {
        let completion = |(key, score): (EntryKey, &CompletionScore)| {
            let reference_logp = if self.objective.needs_reference() {
                let known = self.reference.get(&key);
                known.ok_or_else(|| Error::NoReference { id: example.id.clone() })?
            } else {
                0.0
            };
            let (policy_logp, token_count) = (score.logp, score.token_count);
            Ok(Completion { policy_logp, reference_logp, token_count })
        };
        let completions = entry_keys(example).zip(scores).map(completion);
        Ok(Group { completions: completions.collect::<Result<_, Error>>()? })
    }
}

/// The names of an example's completions in the reference store.
fn entry_keys(example: &Example) -> impl Iterator<Item = EntryKey> + '_ {
    let completions = example.completions.iter().zip(&example.unscored);
    completions.map(|(ids, unscored)| entry_key(&example.prompt, ids, *unscored))
}

/// Stops a step whose loss is not finite, and names the pair.
fn check_finite(step: u64, ids: &[&str], outcomes: &[GroupOutcome]) -> Result<(), Error> {
    for (id, outcome) in ids.iter().zip(outcomes) {
        let is_finite = outcome.coefficients.iter().all(|value| value.is_finite());
        if !(is_finite && outcome.loss.is_finite()) {
            return Err(Error::LossNotFinite { step, id: (*id).to_owned(), loss: outcome.loss });
        }
    }
    Ok(())
}

/// Scores what the store lacks: the completions of `needed` under the reference.
///
/// Returns false if the watcher asked to stop on the way; what was scored is kept.
///
/// # Errors
///
/// A store that cannot be written.
pub fn complete_reference(
    store: &mut ReferenceStore,
    (policy, adapter): (&Policy, bool),
    needed: &[Example],
    tokens_per_micro_batch: usize,
    watch: &mut dyn Watch,
) -> Result<bool, Error> {
    let is_missing = |example: &Example| entry_keys(example).any(|key| store.get(&key).is_none());
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
        let keys = batch.pairs.iter().flat_map(|pair| entry_keys(&needed[*pair]));
        let new: Vec<_> = keys.zip(scores.iter().map(|score| score.logp)).collect();
        store.insert(&new)?;
        done += batch.pairs.len();
        watch.progress(&Progress::Reference { done, total: missing.len() });
    }
    Ok(true)
}
