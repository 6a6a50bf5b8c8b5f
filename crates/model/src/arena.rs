//! Every trainable number in one flat array, so that the optimizer, the gradient norm and a
//! checkpoint each are one pass.

use std::ops::Range;

/// Where a trainable tensor lies in the arena.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The tensor's name in the files that we write.
    pub name: String,
    /// Its place in [`Arena::values`] and [`Arena::gradients`].
    pub range: Range<usize>,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Whether weight decay acts on it; not on biases and norms.
    pub decay: bool,
}

/// All trainable tensors and their gradients.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    slots: Vec<Slot>,
    /// The parameters themselves, always f32.
    pub values: Vec<f32>,
    /// The gradient of each, summed over the micro-batches of a step.
    pub gradients: Vec<f32>,
}

impl Arena {
    /// Adds a tensor and returns its index; the values are taken as given.
    pub(crate) fn add(
        &mut self,
        name: String,
        shape: &[usize],
        decay: bool,
        values: &[f32],
    ) -> usize {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "shape and values of {name}");
        let start = self.values.len();
        self.values.extend_from_slice(values);
        self.gradients.resize(self.values.len(), 0.0);
        let range = start..self.values.len();
        self.slots.push(Slot { name, range, shape: shape.to_vec(), decay });
        self.slots.len() - 1
    }

    /// The tensors, in the order of the arena.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The values of a tensor.
    pub fn value(&self, slot: usize) -> &[f32] {
        &self.values[self.slots[slot].range.clone()]
    }

    /// The values of a tensor, to be overwritten.
    pub(crate) fn value_mut(&mut self, slot: usize) -> &mut [f32] {
        &mut self.values[self.slots[slot].range.clone()]
    }

    /// The gradients of several tensors at once.
    ///
    /// `slots` must ascend, which is how the decoder adds them.
    pub(crate) fn gradients_of(
        gradients: &mut [f32],
        slots: impl Iterator<Item = Range<usize>>,
    ) -> Vec<&mut [f32]> {
        let mut rest = gradients;
        let mut taken = 0;
        let mut parts = Vec::new();
        for range in slots {
            let (part, tail) = rest.split_at_mut(range.end - taken);
            parts.push(&mut part[range.start - taken..]);
            rest = tail;
            taken = range.end;
        }
        parts
    }

    /// Forgets the gradients, before the next optimizer step.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(0.0);
    }
}
