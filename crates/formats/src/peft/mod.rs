//! Adapter folders as PEFT stores them.
