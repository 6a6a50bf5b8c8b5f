//! How to mend what went wrong.

use std::path::Path;

use crate::Error;
use crate::repo::Kind;

impl Error {
    /// How to fix it, in arrow lines where there are several ways.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotFound { name, is_id: true, kind } => format!(
                "download it first: `trueup download {}{name}`\na folder of that name would be used too",
                flag(*kind)
            ),
            Self::NotFound { .. } => "check the path".into(),
            Self::Incomplete { id, .. } => {
                format!("`trueup download {id}` fetches what is missing")
            }
            Self::ManyModels { files, .. } => {
                let first = files.first().map(|file| file.display().to_string());
                format!("name one by its path, such as `{}`", first.unwrap_or_default())
            }
            Self::BadId { .. } => {
                "check the path; a hub id is `org/name`, such as `HuggingFaceTB/SmolLM2-135M-Instruct`".into()
            }
            Self::BadRevision { .. } => "name a branch, a tag or a commit, such as `main`".into(),
            Self::Offline { .. } => {
                "unset `HF_HUB_OFFLINE`, or copy the model here and give its path".into()
            }
            Self::Config { hint, .. } => hint.clone(),
            Self::Foreign { .. } => "move it away, or choose another folder".into(),
            Self::Checksum { path, .. } => format!("delete `{}` and fetch it again", path.display()),
            Self::Certificates { .. } => {
                "`SSL_CERT_FILE` should name a PEM file of certificates".into()
            }
            Self::NoPython { .. } | Self::Pip { .. } => {
                "any instruction-tuned model will do: give its folder or GGUF file with `--model`".into()
            }
            Self::NoSource { .. } => {
                "give the folder or GGUF file of an instruction-tuned model with `--model`\n\
                 or run it once where there is a network: the model stays in the cache"
                    .into()
            }
            _ => return self.hub_hint(),
        };
        Some(text)
    }

    /// How to fix what a hub or the network says.
    fn hub_hint(&self) -> Option<String> {
        let text = match self {
            Self::Unreachable { .. } => "check the connection and the proxy; `HF_ENDPOINT` names another hub, \
                `SSL_CERT_FILE` other certificates; files already fetched stay where they are"
                .into(),
            Self::Status { status: 429, .. } => "the hub asks for a pause; try again in some minutes, \
                and set `HF_TOKEN` for a higher limit"
                .into(),
            Self::Status { .. } | Self::Answer { .. } => {
                "try again later; is `HF_ENDPOINT` the address of a hub?".into()
            }
            Self::NoRepo { with_token, .. } => {
                format!("check the spelling; {}", token_advice(*with_token, "for a private one"))
            }
            Self::Gated { id, with_token } => format!(
                "accept the terms on the page of `{id}`; {}",
                token_advice(*with_token, "of the account that accepted them")
            ),
            Self::NoRevision { .. } => "check the spelling; without a revision `main` is used".into(),
            Self::NoFile { .. } => "look at the repository's list of files".into(),
            Self::NoMatch { files, .. } if files.is_empty() => "the repository has no files".into(),
            Self::NoMatch { files, .. } => format!("it has {files}; `*` in a pattern stands for any characters"),
            Self::Corrupt { .. } => "nothing of it was kept: try again; if it stays so, a proxy or mirror on the way \
                changes files (`HF_ENDPOINT` names another hub)"
                .into(),
            Self::NoWeights { id, others } if let Some(file) = gguf_of(others) => {
                format!("name the file: `trueup download {id} --include {file}`")
            }
            Self::NoWeights { .. } => {
                "pickled weights can run code and are not read: look for a conversion to safetensors; \
                 `--include` fetches any file all the same"
                    .into()
            }
            Self::Broken { .. } | Self::Interrupted => "run the same command again: it goes on where it stopped".into(),
            _ => return None,
        };
        Some(text)
    }
}

fn flag(kind: Kind) -> &'static str {
    match kind {
        Kind::Model => "",
        Kind::Dataset => "--repo-type dataset ",
    }
}

fn token_advice(with_token: bool, whose: &str) -> String {
    if with_token {
        format!("the token that was sent must be one {whose}")
    } else {
        format!("set `HF_TOKEN` to a token {whose}")
    }
}

/// The first GGUF file of a list.
fn gguf_of(files: &str) -> Option<&str> {
    files
        .split(", ")
        .find(|file| Path::new(file).extension().is_some_and(|ending| ending == "gguf"))
}
