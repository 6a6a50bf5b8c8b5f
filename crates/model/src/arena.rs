//! Every trainable number in one flat array, so that the optimizer, the gradient norm and a
//! checkpoint each are one pass.

use std::{borrow::Cow, ops::Range};

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
    /// Whether files have it the other way, inputs first.
    pub is_turned: bool,
}

impl Slot {
    /// Its shape in files.
    pub fn file_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.is_turned {
            shape.reverse();
        }
        shape
    }
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
        self.slots.push(Slot { name, range, shape: shape.to_vec(), decay, is_turned: false });
        self.slots.len() - 1
    }

    /// Says that files have a matrix inputs first.
    pub(crate) fn turn(&mut self, slot: usize) {
        self.slots[slot].is_turned = true;
    }

    /// The values of a tensor as files have them.
    pub fn file_value(&self, slot: usize) -> Cow<'_, [f32]> {
        match (self.slots[slot].is_turned, self.slots[slot].shape.as_slice()) {
            (true, &[rows, cols]) => Cow::Owned(transposed(self.value(slot), (rows, cols))),
            _ => Cow::Borrowed(self.value(slot)),
        }
    }

    /// Overwrites a tensor with values as files have them.
    pub(crate) fn set_file_value(&mut self, slot: usize, values: &[f32]) {
        match (self.slots[slot].is_turned, self.slots[slot].shape.as_slice()) {
            (true, &[rows, cols]) => {
                let values = transposed(values, (cols, rows));
                self.value_mut(slot).copy_from_slice(&values);
            }
            _ => self.value_mut(slot).copy_from_slice(values),
        }
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

/// The columns of a matrix `[rows, cols]`, one after the other.
fn transposed(values: &[f32], (rows, cols): (usize, usize)) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| values[row * cols + col])).collect()
}
