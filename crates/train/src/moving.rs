//! A reference that follows the policy: TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656), TRL's
//! `sync_ref_model`.
//!
//! The reference has values of its own for everything that is trained. Where it is asked, they
//! take the policy's place in the same weights, so that no second model is in memory.

use data::tokenize::Example;
use model::Policy;

use crate::{Watch, reference::ReferenceStore, rows, watch::Progress};

/// How the reference follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SyncSettings {
    /// What the policy counts for in the new reference, the old one counting for the rest; above 0,
    /// at most 1.
    pub mixup_alpha: f64,
    /// Optimizer steps between two moves; at least 1.
    pub steps: u64,
}

/// A reference that has moved as often as it was due.
#[derive(Clone, Debug)]
pub struct MovingReference {
    settings: SyncSettings,
    /// The reference's values of what is trained, in the order of the arena.
    pub values: Vec<f32>,
}

impl MovingReference {
    /// A reference that is the policy as it is now.
    pub fn new(settings: SyncSettings, policy: &Policy) -> Self {
        Self { settings, values: policy.arena().values.clone() }
    }

    /// Whether the reference moves after a step, counted from 1.
    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.settings.steps)
    }

    /// Whether the reference is another one after that many steps than at the start.
    pub fn is_moved(&self, steps: u64) -> bool {
        self.settings.steps <= steps
    }

    /// The steps, counted from 1, that see the same reference as this one.
    pub fn window(&self, step: u64) -> std::ops::RangeInclusive<u64> {
        let steps = self.settings.steps;
        let first = (step - 1) / steps * steps + 1;
        first..=first + steps - 1
    }

    /// Takes a part of the way to the policy.
    // The order of the operations is TRL's: scale, then add.
    pub fn follow(&mut self, policy: &Policy) {
        let alpha = self.settings.mixup_alpha;
        let (keep, take) = ((1.0 - alpha) as f32, alpha as f32);
        for (value, new) in self.values.iter_mut().zip(&policy.arena().values) {
            *value = take.mul_add(*new, *value * keep);
        }
    }

    /// Does something with the reference in the policy's place.
    pub fn stand_in<T>(&mut self, policy: &mut Policy, act: impl FnOnce(&Policy) -> T) -> T {
        self.swap(policy);
        let done = act(policy);
        self.swap(policy);
        done
    }

    /// Whether the store has all that an objective asks of these rows.
    pub fn knows<'a>(
        store: &ReferenceStore,
        mut needed: impl Iterator<Item = &'a Example>,
        tails: bool,
    ) -> bool {
        needed.all(|example| {
            let tails = if tails { rows::tail_keys(example) } else { Vec::new() };
            let keys = rows::entry_keys(example).into_iter().chain(tails.into_iter().flatten());
            keys.into_iter().all(|key| store.get(&key).is_some())
        })
    }

    fn swap(&mut self, policy: &mut Policy) {
        std::mem::swap(&mut policy.arena_mut().values, &mut self.values);
        policy.sync();
    }
}

/// A watcher that cannot ask to stop, for work that must come to its end.
pub(crate) struct Unstoppable<'a>(pub(crate) &'a mut dyn Watch);

impl Watch for Unstoppable<'_> {
    fn note(&mut self, text: &str) {
        self.0.note(text);
    }

    fn progress(&mut self, progress: &Progress) {
        self.0.progress(progress);
    }

    fn interrupted(&self) -> bool {
        false
    }
}
