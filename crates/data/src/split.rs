//! Setting evaluation prompts apart.
