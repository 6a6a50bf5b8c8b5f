//! Checksums of files.

use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// Those of reading the file.
pub fn sha256_file(path: &Path) -> Result<String> {
    digest_file(path, Sha256::new())
}

/// The id that Git gives a file's content, in lower-case hexadecimal.
///
/// # Errors
/// Those of reading the file.
pub(crate) fn git_id_file(path: &Path) -> Result<String> {
    let size = fs_err::metadata(path)?.len();
    digest_file(path, Sha1::new_with_prefix(format!("blob {size}\0")))
}

fn digest_file<D: Digest>(path: &Path, mut digest: D) -> Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&buffer[..count]);
    }
}

/// The checksum that a file has, of the kind that `etag` is; none if `etag` is no checksum.
///
/// # Errors
/// Those of reading the file.
pub(crate) fn like_etag(path: &Path, etag: &str) -> Result<Option<String>> {
    match (is_sha256(etag), is_sha1(etag)) {
        (true, _) => sha256_file(path).map(Some),
        (_, true) => git_id_file(path).map(Some),
        _ => Ok(None),
    }
}

/// Compares a file with the SHA-256 that it should have.
///
/// # Errors
/// [`Error::Checksum`] if it differs, and those of reading the file.
pub fn verify_sha256(path: &Path, want: &str) -> Result<()> {
    let got = sha256_file(path)?;
    if got.eq_ignore_ascii_case(want) {
        return Ok(());
    }
    Err(Error::Checksum { path: path.into(), want: want.into(), got })
}

/// Whether a text has the form of a SHA-256.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a text has the form of a Git object id.
pub(crate) fn is_sha1(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs_err::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), want);
        verify_sha256(&path, &want.to_uppercase()).unwrap();
        let wrong = want.replace('b', "c");
        assert!(matches!(verify_sha256(&path, &wrong), Err(Error::Checksum { .. })));
    }

    #[test]
    fn the_git_id_is_that_of_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        // `git hash-object` of these bytes.
        for (text, want) in [
            ("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            ("hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
        ] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(git_id_file(&path).unwrap(), want);
            assert_eq!(like_etag(&path, want).unwrap().as_deref(), Some(want));
        }
        assert_eq!(like_etag(&path, "no-checksum").unwrap(), None);
    }
}
