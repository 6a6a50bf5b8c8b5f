//! What a run leaves on disk: folder, recipe, events, checkpoints.
