//! A raw disk into the format asked for, and its checksum.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use tokio_util::sync::CancellationToken;

use super::{BuildError, Here};
use crate::backends::qemu::DiskFormat;
use crate::process::Command;

/// The `qemu-img` command. Without `-W`: writes in order cost a second, and make equal disks equal files.
pub(super) fn command(
    from: &Path,
    from_format: DiskFormat,
    to: &Path,
    format: DiskFormat,
    compress: bool,
) -> Command {
    let mut command =
        Command::new("qemu-img").args(["convert", "-f", from_format.name(), "-O", format.name(), "-m", "8"]);
    command = match (format, compress) {
        (DiskFormat::Qcow2, true) => command.args(["-c", "-o", "compression_type=zstd"]),
        (DiskFormat::Vmdk, true) => command.args(["-c", "-o", "subformat=streamOptimized"]),
        _ => command,
    };
    command.arg(from).arg(to)
}

/// Makes `to` (0600) from the raw disk `from`, which is moved when it is already what is asked for.
///
/// # Errors
/// When the disk cannot be converted, read or written.
pub(super) async fn convert(
    here: Here<'_>,
    from: &Path,
    to: &Path,
    format: DiskFormat,
    compress: bool,
) -> Result<(), BuildError> {
    here.log.step(&format!("Writing the {} disk", format.name()));
    let moved = format == DiskFormat::Raw && fs::rename(from, to).is_ok();
    if !moved {
        let command = command(from, DiskFormat::Raw, to, format, compress);
        here.run(&command).await.map_err(BuildError::tool(format!("write {}", to.display())))?;
    }
    fs::set_permissions(to, Permissions::from_mode(0o600)).map_err(BuildError::io("close", to))
}

/// The SHA-256 of a file, 64 lower-case hex digits.
///
/// # Errors
/// When it cannot be read, or the operation is cancelled.
pub(super) async fn sha256(path: &Path, cancel: &CancellationToken) -> Result<String, BuildError> {
    let (path, cancel): (PathBuf, _) = (path.to_owned(), cancel.clone());
    let work = move || {
        let mut file = File::open(&path).map_err(BuildError::io("open", &path))?;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 1 << 20];
        loop {
            if cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            match file.read(&mut buffer).map_err(BuildError::io("read", &path))? {
                0 => return Ok(hex::encode(context.finish())),
                read => context.update(&buffer[..read]),
            }
        }
    };
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| BuildError::Invalid(format!("the checksum's task failed: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_always_named() {
        let line = |format, compress| {
            let command = command(Path::new("/a b"), DiskFormat::Raw, Path::new("/-c"), format, compress);
            command.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let cases = [
            (DiskFormat::Qcow2, true, "convert -f raw -O qcow2 -m 8 -c -o compression_type=zstd /a b /-c"),
            (DiskFormat::Qcow2, false, "convert -f raw -O qcow2 -m 8 /a b /-c"),
            (DiskFormat::Vmdk, true, "convert -f raw -O vmdk -m 8 -c -o subformat=streamOptimized /a b /-c"),
            (DiskFormat::Vmdk, false, "convert -f raw -O vmdk -m 8 /a b /-c"),
            (DiskFormat::Raw, true, "convert -f raw -O raw -m 8 /a b /-c"),
        ];
        for (format, compress, expected) in cases {
            assert_eq!(line(format, compress), expected);
        }
    }

    #[tokio::test]
    async fn a_known_checksum() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let sum = sha256(file.path(), &CancellationToken::new()).await.unwrap();
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(matches!(sha256(file.path(), &cancel).await, Err(BuildError::Cancelled)));
    }
}
