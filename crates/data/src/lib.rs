//! From rows of preference files to packed micro-batches of tokens.
