//! The flags of `serve`.

use std::{net::IpAddr, path::PathBuf};

use super::bytes;

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// A model folder, a GGUF file or a hub id; absent, the one that the first adapter names.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// An adapter, and the name under which requests ask for it; may be given many times.
    #[arg(long, value_name = "NAME=DIR", value_parser = adapter)]
    pub adapter: Vec<(String, PathBuf)>,
    /// The address to listen on.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port to listen on; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// The environment variable that holds the key which requests must send.
    #[arg(long, value_name = "NAME", conflicts_with = "api_key_file")]
    pub api_key_env: Option<String>,
    /// The file that holds it.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Let other machines ask without a key.
    #[arg(long, conflicts_with_all = ["api_key_env", "api_key_file"])]
    pub without_api_key: bool,
    /// Answers that are computed at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent: u16,
    /// Requests that may wait beside those; more are turned away.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_queue: u16,
    /// The largest body of a request.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = bytes)]
    pub max_body: u64,
    /// Seconds after which an answer is given up.
    #[arg(long, value_name = "SECS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: u32,
}

/// `NAME=DIR`.
fn adapter(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.to_owned(), folder.into()))
        }
        _ => Err("give the adapter a name, as `tuned=runs/first`".to_owned()),
    }
}
