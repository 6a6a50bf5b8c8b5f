//! Part of the way from records to micro-batches.
