//! Whether this host lets a build do what it will do to the system: tried out in a folder that is thrown away, for whoever may
//! make namespaces need not be let mount in them, nor leave their root for a tree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::area::Area;
use super::{BuildError, Host};
use crate::backends::qemu::host::Refusal;
use crate::process::Limits;
use crate::process::enter::{AREA, Entry, Tree};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The least that a tree has where something is mounted or put.
const FOLDERS: &[&str] = &["proc", "sys", "dev", "run", "etc", "usr/sbin"];

/// What of a build this host refuses, if anything.
pub(in crate::backends::qemu) async fn refused(host: &Host, cancel: &CancellationToken) -> Option<Refusal> {
    let limits = Limits { cancel: cancel.clone(), timeout: Some(PATIENCE) };
    let place = match Place::make(&host.cache_dir) {
        Ok(place) => place,
        Err(error) => return Some(Refusal::Namespaces(error.to_string())),
    };
    let made = enter(host, &place.area, &layer(), &limits).await;
    let refused = match made {
        Err(error) => Some(Refusal::Namespaces(error.to_string())),
        Ok(()) => {
            let entered = enter(host, &place.area, &tree(), &limits).await;
            entered.err().map(|error| Refusal::Tree(error.to_string()))
        }
    };
    // What belongs to the namespace's ids, which the folder's end would not remove.
    if let Err(error) = place.area.remove(host, "").await {
        tracing::debug!(%error, "what was tried out cannot be removed");
    }
    refused
}

/// A folder where the cache is, or is to be: what it lies on matters.
struct Place {
    area: Area,
    _folder: tempfile::TempDir,
}

impl Place {
    fn make(cache_dir: &Path) -> Result<Self, BuildError> {
        let existing = cache_dir.ancestors().find(|dir| dir.is_dir());
        let there = existing.and_then(|dir| tempfile::tempdir_in(dir).ok());
        let folder = there.map_or_else(tempfile::tempdir, Ok);
        let folder = folder.map_err(BuildError::io("create", &std::env::temp_dir()))?;
        let area = Area::open(folder.path())?;
        area.make_open("layers/tried")?;
        area.make_open("work/tried")?;
        area.make_open("work/tried/root")?;
        area.make_ours("work/tried/stage")?;
        Ok(Self { area, _folder: folder })
    }
}

/// Makes a layer, as the namespace's root does.
fn layer() -> Entry {
    let folders = FOLDERS.iter().map(|name| format!("{AREA}/layers/tried/root/{name}"));
    Entry::new("mkdir").args(["-p", "--"]).args(folders)
}

/// A tree over it, as a step has it.
fn tree() -> Entry {
    let part = |name: &str| PathBuf::from("work/tried").join(name);
    let tree = Tree {
        layer: "layers/tried/root".into(),
        upper: part("upper"),
        scratch: part("scratch"),
        root: part("root"),
        stage: Some(part("stage")),
    };
    Entry { tree: Some(tree), chroot: true, ..Entry::nothing() }
}

async fn enter(host: &Host, area: &Area, entry: &Entry, limits: &Limits) -> Result<(), BuildError> {
    let finished = host.runner.run(&area.command(host, entry), None, limits).await;
    let finished = finished.map_err(BuildError::tool("make namespaces"))?;
    if finished.code == 0 {
        return Ok(());
    }
    Err(super::said::refused(&finished.output).unwrap_or_else(|| {
        BuildError::Invalid(format!("namespaces cannot be made: {}", finished.output.trim()))
    }))
}
