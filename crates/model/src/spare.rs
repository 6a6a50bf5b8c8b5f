//! Adapters that wait beside the one in use, all on the same packed weights.

use std::path::Path;

use formats::peft::{Adapter, AdapterConfig};

use crate::{Arena, Error, Policy, decoder::Trained};

/// An adapter of a policy's weights that is not in use, or the absence of one.
pub struct Spare {
    arena: Arena,
    /// What it gives to each linear, in the order of the decoder.
    trained: Vec<Trained>,
    config: Option<AdapterConfig>,
}

impl Policy {
    /// Makes an adapter ready for [`Self::exchange`]; the one in use stays in use.
    ///
    /// # Errors
    ///
    /// Adapter targets that the model does not have; `origin` is named in the error.
    ///
    /// # Panics
    ///
    /// If the weights themselves are trained.
    pub fn spare(&mut self, adapter: &Adapter, origin: &Path) -> Result<Spare, Error> {
        let linears = self.parts_mut().0;
        let trained = linears.map(|_| Trained::Nothing).collect();
        let mut spare = Spare { arena: Arena::default(), trained, config: None };
        self.exchange(&mut spare);
        let attached = self.attach(adapter, origin);
        self.exchange(&mut spare);
        attached.map(|()| spare)
    }

    /// Puts an adapter in use and the one that was in its place: the policy is then what
    /// [`Self::with_adapter`] would have made of it. Costs no more than moving a few pointers.
    ///
    /// # Panics
    ///
    /// If the weights themselves are trained, or the adapter was made ready for another policy.
    pub fn exchange(&mut self, spare: &mut Spare) {
        let (linears, arena) = self.parts_mut();
        std::mem::swap(arena, &mut spare.arena);
        let mut kept = spare.trained.iter_mut();
        for linear in linears {
            assert!(!matches!(linear.trained, Trained::Full { .. }), "frozen weights are shared");
            let Some(kept) = kept.next() else { panic!("the adapter of another policy") };
            std::mem::swap(&mut linear.trained, kept);
        }
        std::mem::swap(self.adapter_config_mut(), &mut spare.config);
    }
}
