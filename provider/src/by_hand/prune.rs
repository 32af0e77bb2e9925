//! `prune`: removes old images of this computer that nobody holds.

use tokio_util::sync::CancellationToken;

use super::args::Args;
use crate::backends::Backends;
use crate::backends::qemu::prune::Pruned;
use crate::diagnose;

/// What is to be pruned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// How many of each name prefix stay.
    keep: usize,
    dry_run: bool,
}

impl Asked {
    /// Reads the arguments after `prune`.
    ///
    /// # Errors
    /// When one of them means nothing, or none says how many stay.
    pub(super) fn read(args: &mut Args<'_>) -> Result<Self, String> {
        let (mut keep, mut dry_run) = (None, false);
        while let Some(word) = args.take()? {
            match word.to_str() {
                Some("--dry-run") => dry_run = true,
                Some("--keep") => {
                    let missing = "--keep needs a number: how many images of each prefix stay";
                    keep = Some(args.text(missing)?.parse().map_err(|_| missing)?);
                }
                _ => return Err(args.unknown(word)),
            }
        }
        let keep = keep.ok_or("prune needs `--keep N`: how many images of each prefix stay")?;
        Ok(Self { keep, dry_run })
    }
}

/// Prunes, and tells what was done.
///
/// # Errors
/// When the store cannot be read or changed.
pub(super) async fn prune(backends: &Backends, asked: &Asked) -> Result<String, String> {
    let pruned = backends.local.prune(asked.keep, asked.dry_run, &CancellationToken::new()).await;
    Ok(report(&pruned.map_err(|error| diagnose::chain(&error))?, asked.dry_run))
}

fn report(pruned: &[Pruned], dry_run: bool) -> String {
    if pruned.is_empty() {
        return "nothing to remove\n".to_owned();
    }
    let (removed, freed) = if dry_run { ("would remove", "would free") } else { ("removed", "freed") };
    let mut text = String::new();
    for Pruned { id, name, created_at, freed } in pruned {
        let made = created_at.format("%Y-%m-%d");
        text.push_str(&format!("{removed} {id} ({name}, of {made}): {}\n", size(*freed)));
    }
    text.push_str(&format!("{freed} {}\n", size(pruned.iter().map(|one| one.freed).sum())));
    text
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let mebibytes = bytes.div_ceil(1 << 20);
    if mebibytes < 1 << 10 {
        format!("{mebibytes} MiB")
    } else {
        format!("{}.{} GiB", mebibytes >> 10, ((mebibytes & 1023) * 10) >> 10)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use chrono::{TimeZone, Utc};

    use super::*;

    #[test]
    fn how_many_stay_has_to_be_said() {
        let read = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            Asked::read(&mut Args::of("prune", &args))
        };
        assert_eq!(read(&["--keep", "3"]), Ok(Asked { keep: 3, dry_run: false }));
        let asked = read(&["--dry-run", "--data-dir", "/d", "--keep", "0"]);
        assert_eq!(asked, Ok(Asked { keep: 0, dry_run: true }));
        for wrong in [&[][..], &["--keep"], &["--keep", "-1"], &["--keep", "all"], &["--dry-run"], &["3"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_went_and_how_much_that_freed() {
        let one = |id: &str, freed| Pruned {
            id: id.into(),
            name: format!("dev-{id}"),
            created_at: Utc.with_ymd_and_hms(2026, 1, 31, 0, 0, 0).unwrap(),
            freed,
        };
        let two = [one("a", 1 << 20), one("b", (3 << 30) + (512 << 20))];
        assert_eq!(
            report(&two, false),
            "removed a (dev-a, of 2026-01-31): 1 MiB\nremoved b (dev-b, of 2026-01-31): 3.5 GiB\nfreed 3.5 GiB\n"
        );
        assert_eq!(
            report(&two[..1], true),
            "would remove a (dev-a, of 2026-01-31): 1 MiB\nwould free 1 MiB\n"
        );
        assert_eq!(report(&[], true), "nothing to remove\n");
        assert_eq!([0, 1, 1 << 20, 1 << 30].map(size), ["0 MiB", "1 MiB", "1 MiB", "1.0 GiB"]);
    }
}
