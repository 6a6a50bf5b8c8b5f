//! Goldens, tolerances with their reasons, tiny models, a hub and a chat endpoint on loopback; for
//! tests only.

pub mod chat_server;
pub mod hub_server;
pub mod tolerance;

use std::path::PathBuf;

/// The folder of real data beside the project, when it is there.
///
/// The project ships only data that its own authors wrote; tests on real data skip where this is
/// `None`, and say so.
pub fn shared_data() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    path.is_dir().then_some(path)
}

/// A file of the `goldens/` folder.
pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}
