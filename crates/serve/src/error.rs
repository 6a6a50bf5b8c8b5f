//! What can keep a server from running.

use std::{io, net::SocketAddr};

/// What can keep a server from running; problems of single requests are answers to them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no threads.
    #[error("cannot start the server's threads")]
    Threads(#[source] io::Error),
    /// An address that others can reach, without a key.
    #[error("{address} can be reached from other machines, and there is no API key")]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// Two models cannot be told apart.
    #[error("two models are named `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// A limit that leaves nothing.
    #[error("`{name}` must be at least 1")]
    Nothing {
        /// The limit.
        name: &'static str,
    },
    /// A default of `generation_config.json` that cannot be used.
    #[error("`{key}` in `generation_config.json` must be {wanted}, and is {value}")]
    Default {
        /// The key.
        key: &'static str,
        /// What it may be.
        wanted: &'static str,
        /// What it is.
        value: String,
    },
    /// A key that is no key.
    #[error("the API key {why}")]
    Key {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The computing thread ended before the server did.
    #[error("the computing thread ended by itself")]
    Worker,
}

impl Error {
    /// How to fix it, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there; choose another `--port`".into())
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 are the system's; choose another `--port`".into())
            }
            Self::Listen { .. } => Some("choose an address of this machine with `--host`".into()),
            Self::Open { .. } => Some(
                "give a key with `--api-key-env` or `--api-key-file`, or say `--without-api-key`"
                    .into(),
            ),
            Self::SameName { .. } => Some("give the adapter another name".into()),
            Self::Key { .. } => Some("a key is one line of visible ASCII characters".into()),
            Self::Default { .. } => Some("correct the file, or remove the key from it".into()),
            Self::Threads(_) | Self::Nothing { .. } | Self::Worker => None,
        }
    }
}
