//! `prune`: removes old images of this computer that nobody holds, and what the cache keeps for builds.

use tokio_util::sync::CancellationToken;

use super::args::Args;
use crate::backends::Backends;
use crate::backends::qemu::image::{PrunedTree, PrunedTrees};
use crate::backends::qemu::prune::Pruned;
use crate::diagnose;

/// What is to be pruned.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Images: how many of each name prefix stay.
    keep: Option<usize>,
    /// Layers, and what killed builds left in the cache.
    layers: bool,
    dry_run: bool,
}

impl Asked {
    /// Reads the arguments after `prune`.
    ///
    /// # Errors
    /// When one of them means nothing, or none says what goes.
    pub(super) fn read(args: &mut Args<'_>) -> Result<Self, String> {
        let mut asked = Self::default();
        while let Some(word) = args.take()? {
            match word.to_str() {
                Some("--dry-run") => asked.dry_run = true,
                Some("--layers") => asked.layers = true,
                Some("--keep") => {
                    let missing = "--keep needs a number: how many images of each prefix stay";
                    asked.keep = Some(args.text(missing)?.parse().map_err(|_| missing)?);
                }
                _ => return Err(args.unknown(word)),
            }
        }
        if asked.keep.is_none() && !asked.layers {
            return Err(
                "prune needs `--keep N`, how many images of each prefix stay, or `--layers`".to_owned()
            );
        }
        Ok(asked)
    }
}

/// Prunes, and tells what was done.
///
/// # Errors
/// When the store or the cache cannot be read or changed.
pub(super) async fn prune(backends: &Backends, asked: &Asked) -> Result<String, String> {
    let (local, dry) = (&backends.local, asked.dry_run);
    let mut images = Vec::new();
    if let Some(keep) = asked.keep {
        let pruned = local.prune(keep, dry, &CancellationToken::new()).await;
        images = pruned.map_err(|error| diagnose::chain(&error))?;
    }
    let mut trees = PrunedTrees::default();
    if asked.layers {
        trees = local.prune_layers(dry).await.map_err(|error| diagnose::chain(&error))?;
    }
    Ok(report(&images, &trees, dry))
}

fn report(images: &[Pruned], trees: &PrunedTrees, dry_run: bool) -> String {
    let image = |Pruned { id, name, created_at, freed }: &Pruned| {
        (format!("{id} ({name}, of {})", created_at.format("%Y-%m-%d")), *freed)
    };
    let tree = |PrunedTree { what, freed }: &PrunedTree| (what.clone(), *freed);
    let gone: Vec<_> = images.iter().map(image).chain(trees.removed.iter().map(tree)).collect();
    let (removed, freed) = if dry_run { ("would remove", "would free") } else { ("removed", "freed") };
    let mut text: String =
        gone.iter().map(|(what, freed)| format!("{removed} {what}: {}\n", size(*freed))).collect();
    if gone.is_empty() {
        text.push_str("nothing to remove\n");
    } else {
        text.push_str(&format!("{freed} {}\n", size(gone.iter().map(|(_, freed)| freed).sum())));
    }
    if trees.used > 0 {
        text.push_str(&format!("{} in the cache stay: builds use them\n", trees.used));
    }
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
    fn what_goes_has_to_be_said() {
        let read = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            Asked::read(&mut Args::of("prune", &args))
        };
        for (args, keep, layers, dry_run) in [
            (&["--keep", "3"][..], Some(3), false, false),
            (&["--dry-run", "--data-dir", "/d", "--keep", "0"], Some(0), false, true),
            (&["--layers"], None, true, false),
            (&["--layers", "--dry-run", "--keep", "1"], Some(1), true, true),
        ] {
            assert_eq!(read(args), Ok(Asked { keep, layers, dry_run }), "{args:?}");
        }
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
        let none = PrunedTrees::default();
        let two = [one("a", 1 << 20), one("b", (3 << 30) + (512 << 20))];
        assert_eq!(
            report(&two, &none, false),
            "removed a (dev-a, of 2026-01-31): 1 MiB\nremoved b (dev-b, of 2026-01-31): 3.5 GiB\nfreed 3.5 GiB\n"
        );
        assert_eq!(
            report(&two[..1], &none, true),
            "would remove a (dev-a, of 2026-01-31): 1 MiB\nwould free 1 MiB\n"
        );
        assert_eq!(report(&[], &none, true), "nothing to remove\n");
        let trees =
            PrunedTrees { removed: vec![PrunedTree { what: "layer x".into(), freed: 1 << 20 }], used: 2 };
        assert_eq!(
            report(&two[..1], &trees, false),
            "removed a (dev-a, of 2026-01-31): 1 MiB\nremoved layer x: 1 MiB\nfreed 2 MiB\n\
             2 in the cache stay: builds use them\n"
        );
        assert_eq!(
            report(&[], &PrunedTrees { used: 1, ..none }, false),
            "nothing to remove\n1 in the cache stay: builds use them\n"
        );
        assert_eq!([0, 1, 1 << 20, 1 << 30].map(size), ["0 MiB", "1 MiB", "1 MiB", "1.0 GiB"]);
    }
}
