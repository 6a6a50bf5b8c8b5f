//! Telling what a file is from its first bytes.

use std::fmt;

/// What the first bytes of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// A GGUF file.
    Gguf,
    /// A GGML file of the time before GGUF.
    Ggml,
    /// A file that stands for another one in a repository without its large files.
    LfsPointer,
    /// A zip archive, as PyTorch writes it.
    Zip,
    /// A web page.
    Html,
    /// JSON text.
    Json,
    /// A file that starts like a safetensors file.
    Safetensors,
    /// Nothing at all.
    Empty,
    /// Something else.
    Unknown,
}

impl Signature {
    /// Looks at the first bytes of a file.
    pub fn of(bytes: &[u8]) -> Self {
        let known: [(&[u8], Self); 9] = [
            (b"GGUF", Self::Gguf),
            (b"tjgg", Self::Ggml),
            (b"fmgg", Self::Ggml),
            (b"lmgg", Self::Ggml),
            (b"version https://git-lfs", Self::LfsPointer),
            (b"PK\x03\x04", Self::Zip),
            (b"<!", Self::Html),
            (b"<html", Self::Html),
            (b"{", Self::Json),
        ];
        if bytes.is_empty() {
            return Self::Empty;
        }
        let by_start = known.iter().find(|(start, _)| bytes.starts_with(start));
        match by_start {
            Some((_, signature)) => *signature,
            None if bytes.get(8) == Some(&b'{') => Self::Safetensors,
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gguf => "a GGUF file",
            Self::Ggml => "a GGML file, older than GGUF",
            Self::LfsPointer => "a Git LFS pointer",
            Self::Zip => "a zip archive",
            Self::Html => "a web page",
            Self::Json => "JSON text",
            Self::Safetensors => "a safetensors file",
            Self::Empty => "empty",
            Self::Unknown => "something unknown",
        })
    }
}
