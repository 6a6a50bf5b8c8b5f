//! Frozen or trainable projections of one input, with low-rank adapters.
