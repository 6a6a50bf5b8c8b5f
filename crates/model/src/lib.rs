//! Decoder families, the tape, LoRA, weights in and out, generation.
