//! A disk image that somebody else made, as a raw disk of our own. It is never mounted on this host, and may not
//! refer to any other file.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{BuildError, Here, convert, download};
use crate::backends::qemu::{DiskFormat, ImageSource};
use crate::process::{BuildLog, Command, Limits};

/// A base image in the build's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseImage {
    /// What identifies it, for `resolved_base`.
    pub(super) resolved: String,
    /// The disk's size, in bytes.
    pub(super) size: u64,
}

/// Copies the image to the raw disk `to` of `size` bytes.
///
/// # Errors
/// When it cannot be had, is not what its checksum says, refers to other files, or is larger than `size`.
pub(super) async fn bring(
    here: Here<'_>,
    source: &ImageSource,
    sha256: Option<&str>,
    to: &Path,
    size: u64,
) -> Result<BaseImage, BuildError> {
    let Here { host, log, cancel } = here;
    let copy = to.with_extension("base");
    let found = match (source, sha256) {
        (ImageSource::Url(url), Some(sha256)) => {
            downloaded(&host.cache_dir, url, sha256, &copy, log, cancel).await?;
            sha256.to_owned()
        }
        (ImageSource::Url(_), None) => {
            return Err(BuildError::Invalid("a base image from a URL needs `sha256`".to_owned()));
        }
        (ImageSource::Path(path), expected) => {
            log.step("Copying the base image");
            own_copy(path, &copy, cancel).await?;
            let found = convert::sha256(&copy, cancel).await?;
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return Err(BuildError::Checksum {
                    what: path.display().to_string(),
                    expected: expected.to_owned(),
                    found,
                });
            }
            found
        }
    };
    let format = inspect(&copy)?;
    let info = info(here, &copy, format).await?;
    if info.virtual_size > size {
        return Err(BuildError::TooSmall {
            disk_gb: u32::try_from(size >> 30).unwrap_or(u32::MAX),
            needed_gb: info.virtual_size.div_ceil(1 << 30),
        });
    }
    log.step(&format!("Unpacking the base image ({})", format.name()));
    let command = convert::command(&copy, format, to, DiskFormat::Raw, false);
    here.run(&command)
        .await
        .map_err(BuildError::tool(format!("unpack the base image to {}", to.display())))?;
    fs::remove_file(&copy).map_err(BuildError::io("remove", &copy))?;
    let disk = OpenOptions::new().write(true).open(to).map_err(BuildError::io("open", to))?;
    disk.set_len(size).map_err(BuildError::io("grow", to))?;
    Ok(BaseImage { resolved: format!("sha256:{found}"), size })
}

/// A copy of what is behind a URL. The cache's file is not trusted for its name: what a disk made of it is fetched again.
async fn downloaded(
    cache_dir: &Path,
    url: &str,
    sha256: &str,
    to: &Path,
    log: &BuildLog,
    cancel: &CancellationToken,
) -> Result<(), BuildError> {
    for again in [true, false] {
        let file = download::fetch(cache_dir, url, sha256, log, cancel).await?;
        own_copy(&file, to, cancel).await?;
        let found = convert::sha256(to, cancel).await?;
        if found == sha256 {
            break;
        }
        download::forget(&file)?;
        if !again {
            let what = file.display().to_string();
            return Err(BuildError::Checksum { what, expected: sha256.to_owned(), found });
        }
        log.line("The cached base image is damaged: fetching it again");
    }
    Ok(())
}

/// A copy that nobody else can change between our look and QEMU's; shares blocks where the file system can.
async fn own_copy(from: &Path, to: &Path, cancel: &CancellationToken) -> Result<(), BuildError> {
    let (from, to, cancel) = (from.to_owned(), to.to_owned(), cancel.clone());
    let copy = move || {
        let mut source = File::open(&from).map_err(BuildError::io("open", &from))?;
        let kind = source.metadata().map_err(BuildError::io("read", &from))?;
        if !kind.is_file() {
            return Err(BuildError::Invalid(format!("{} is not a file", from.display())));
        }
        let target = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&to);
        let mut target = target.map_err(BuildError::io("create", &to))?;
        if rustix::fs::ioctl_ficlone(&target, &source).is_ok() {
            return Ok(());
        }
        loop {
            if cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let copied = std::io::copy(&mut Read::by_ref(&mut source).take(64 << 20), &mut target);
            if copied.map_err(BuildError::io("write", &to))? == 0 {
                return Ok(());
            }
        }
    };
    let joined = tokio::task::spawn_blocking(copy).await;
    joined.map_err(|error| BuildError::Invalid(format!("the copy's task failed: {error}")))?
}

/// The format by its first bytes; images that lead to other files are refused before QEMU opens them.
fn inspect(path: &Path) -> Result<DiskFormat, BuildError> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(BuildError::io("open", path))?;
    file.take(1024).read_to_end(&mut head).map_err(BuildError::io("read", path))?;
    format_of(&head).map_err(|reason| BuildError::Refused { reason })
}

const SPLIT_VMDK: &str =
    "it is a vmdk that leads to other files: make it one file with `qemu-img convert -O qcow2`";

/// From the qcow2 specification (docs/interop/qcow2.txt) and VMware's "Virtual Disk Format 5.0".
fn format_of(head: &[u8]) -> Result<DiskFormat, &'static str> {
    const EXTERNAL_DATA: u64 = 1 << 2;
    let number = |at: usize| -> u64 {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    if head.starts_with(b"QFI\xfb") {
        if head.get(4..8).is_none_or(|version| version[..3] != [0; 3] || version[3] < 2) {
            return Err(
                "it is a qcow image of an unknown version: convert it with `qemu-img convert -O qcow2`",
            );
        }
        if number(8) != 0 {
            return Err("it has a backing file: make it stand alone with `qemu-img convert`");
        }
        if head[7] >= 3 && number(72) & EXTERNAL_DATA != 0 {
            return Err("its data are in another file: make it stand alone with `qemu-img convert`");
        }
        return Ok(DiskFormat::Qcow2);
    }
    if head.starts_with(b"KDMV") {
        // No capacity: the header holds a descriptor that may name other files.
        return match head.get(12..20) {
            Some(capacity) if capacity.iter().any(|byte| *byte != 0) => Ok(DiskFormat::Vmdk),
            _ => Err(SPLIT_VMDK),
        };
    }
    if head.starts_with(b"# Disk DescriptorFile") || head.starts_with(b"COWD") {
        return Err(SPLIT_VMDK);
    }
    let others: [&[u8]; 4] = [b"conectix", b"vhdxfile", b"<<< ", b"QED\0"];
    if others.iter().any(|magic| head.starts_with(magic)) {
        return Err(
            "it is neither qcow2 nor vmdk nor a raw disk: convert it with `qemu-img convert -O qcow2`",
        );
    }
    let packed: [&[u8]; 5] = [b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"];
    if packed.iter().any(|magic| head.starts_with(magic)) {
        return Err(
            "it is packed (gzip, xz, bzip2, zstd or zip): unpack it, and name the disk image that is in it",
        );
    }
    // Both kinds of partition tables have it. Whatever else was meant, a guest would be waited for in vain.
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Err(
            "it is neither qcow2 nor vmdk, and has no partition table, as a raw disk that boots does: look at what it is with `file`, and convert another kind of disk image with `qemu-img convert -O qcow2`",
        );
    }
    Ok(DiskFormat::Raw)
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Info {
    virtual_size: u64,
    backing_filename: Option<String>,
    full_backing_filename: Option<String>,
    format_specific: Option<Specific>,
}

#[derive(Deserialize)]
struct Specific {
    #[serde(default)]
    data: serde_json::Value,
}

/// What QEMU itself reads in the header; a second look for references to other files.
async fn info(here: Here<'_>, path: &Path, format: DiskFormat) -> Result<Info, BuildError> {
    let command = Command::new("qemu-img").args(["info", "--output=json", "-f", format.name()]).arg(path);
    let output = here.host.runner.check(&command, None, &Limits::cancelled_by(here.cancel)).await;
    let output = output.map_err(BuildError::tool("read the base image"))?;
    let unreadable = |_| BuildError::Refused {
        reason: "qemu-img does not say what is in it: make it anew with `qemu-img convert -O qcow2`",
    };
    let info: Info = serde_json::from_str(&output).map_err(unreadable)?;
    let data = info.format_specific.as_ref().map(|specific| &specific.data);
    let data_file = data.is_some_and(|data| !data["data-file"].is_null());
    let extents = data.and_then(|data| data["extents"].as_array());
    let foreign = extents.is_some_and(|all| all.iter().any(|it| it["filename"].as_str() != path.to_str()));
    if info.backing_filename.is_some() || info.full_backing_filename.is_some() || data_file || foreign {
        let reason = "it refers to other files: make it stand alone with `qemu-img convert`";
        return Err(BuildError::Refused { reason });
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2(version: u8, backing: u64, incompatible: u64) -> Vec<u8> {
        let mut head = vec![0; 512];
        head[..8].copy_from_slice(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]);
        head[8..16].copy_from_slice(&backing.to_be_bytes());
        head[72..80].copy_from_slice(&incompatible.to_be_bytes());
        head
    }

    #[test]
    fn formats_are_told_by_content_and_references_refused() {
        let mut vmdk = b"KDMV\x01\0\0\0\0\0\0\0".to_vec();
        vmdk.extend([0, 0, 1, 0, 0, 0, 0, 0]);
        let mut raw = vec![0; 1024];
        raw[510..512].copy_from_slice(&[0x55, 0xaa]);
        let good: [(Vec<u8>, DiskFormat); 5] = [
            (qcow2(2, 0, 0), DiskFormat::Qcow2),
            (qcow2(3, 0, 1 << 3), DiskFormat::Qcow2),
            // Version 2 has no feature bits; what lies there is something else.
            (qcow2(2, 0, 4), DiskFormat::Qcow2),
            (vmdk.clone(), DiskFormat::Vmdk),
            (raw, DiskFormat::Raw),
        ];
        for (head, format) in good {
            assert_eq!(format_of(&head), Ok(format), "{:?}", &head[..head.len().min(8)]);
        }
        vmdk[12..20].fill(0);
        let (convert, unpack) = ("`qemu-img convert", "unpack it");
        let bad = [
            (qcow2(3, 104, 0), convert),
            (qcow2(2, 104, 0), convert),
            (qcow2(3, 0, 4), convert),
            (qcow2(1, 0, 0), convert),
            (b"QFI\xfb".to_vec(), convert),
            (b"# Disk DescriptorFile\n".to_vec(), convert),
            (vmdk, convert),
            (b"KDMV".to_vec(), convert),
            (b"vhdxfile".to_vec(), convert),
            (b"\x1f\x8b\x08".to_vec(), unpack),
            (b"\xfd7zXZ\0".to_vec(), unpack),
            (b"BZh91AY".to_vec(), unpack),
            (b"\x28\xb5\x2f\xfd\x24".to_vec(), unpack),
            (b"PK\x03\x04\x14".to_vec(), unpack),
            (b"<!DOCTYPE html>".to_vec(), "`file`"),
            (vec![0; 1024], "`file`"),
            (Vec::new(), "`file`"),
        ];
        for (head, what_to_do) in bad {
            let told = format_of(&head);
            assert!(
                told.is_err_and(|told| told.contains(what_to_do)),
                "{:?}: {told:?}",
                &head[..head.len().min(16)]
            );
        }
    }

    #[tokio::test]
    async fn a_damaged_download_is_fetched_again() {
        use std::io::Write;
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let dir = tempfile::tempdir().unwrap();
        let log = BuildLog::create(&dir.path().join("logs"), "x", "1", crate::process::Redactor::default())
            .unwrap();
        fs::create_dir(dir.path().join("downloads")).unwrap();
        let (cached, to) = (dir.path().join("downloads").join(sum), dir.path().join("copy"));
        fs::write(&cached, [0; 3]).unwrap();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", server.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
                .unwrap();
        });
        downloaded(dir.path(), &url, sum, &to, &log, &CancellationToken::new()).await.unwrap();
        served.join().unwrap();
        assert_eq!((fs::read(&to).unwrap(), fs::read(&cached).unwrap()), (b"abc".to_vec(), b"abc".to_vec()));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_an_answer(head: Vec<u8>, magic in 0..3usize) {
            let mut bytes: Vec<u8> = [&b""[..], b"QFI\xfb", b"KDMV"][magic].to_vec();
            bytes.extend(head);
            let _ = format_of(&bytes);
        }
    }
}
