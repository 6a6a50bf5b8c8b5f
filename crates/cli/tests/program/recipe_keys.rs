//! Every key of a recipe acts.
