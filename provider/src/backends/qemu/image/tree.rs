//! A build's own tree: the layer with what the steps change laid over it.
//!
//! Its files live in `work/<build id>` of the area; nothing is mounted outside the namespaces.

mod pack;
mod run;

pub(super) use pack::Mke2fs;

use std::fs::{self, File};
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apt_login::Login;
use super::area::{self, Area};
use super::layer::Layer;
use super::mirrors::{self, Reached};
use super::{BuildError, Here, Host};
use crate::process::enter::{self, Entry};
use crate::process::lock::How;
use crate::process::{BuildLog, Limits};

/// A build's tree.
pub(super) struct Tree<'a> {
    host: &'a Host,
    area: &'a Area,
    log: BuildLog,
    cancel: &'a CancellationToken,
    folder: String,
    layer: String,
    login: Login,
    reached: Reached,
    _lock: File,
}

impl<'a> Tree<'a> {
    /// A fresh tree over a layer, for the build `id`.
    ///
    /// # Errors
    /// When its folders cannot be made.
    pub(super) fn create(
        here: Here<'a>,
        area: &'a Area,
        layer: &Layer,
        id: Uuid,
        reached: Reached,
    ) -> Result<Self, BuildError> {
        let folder = folder(id);
        let lock = claim(area, id)?;
        for part in ["", "/root"] {
            area.make_open(&format!("{folder}{part}"))?;
        }
        // Steps only read there: what they put in it we would write through, or run.
        area.make_ours(&format!("{folder}/stage"))?;
        let root = layer.root.clone();
        let login = match reached {
            Reached::All => layer.reach.login.clone(),
            Reached::Mirrors(_) => layer.reach.login.at_mirrors(),
            Reached::Nothing => Login::default(),
        };
        let Here { host, log, cancel } = here;
        let log = log.hiding(&login.passwords());
        Ok(Self { host, area, log, cancel, folder, layer: root, login, reached, _lock: lock })
    }

    /// What has to be done before the first step.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) async fn prepare(&self) -> Result<(), BuildError> {
        let Reached::Mirrors(_) = self.reached else { return Ok(()) };
        let entry = self.entry("/bin/sh", ["-euc", mirrors::FORGET_PROXIES].map(str::to_owned).into(), true);
        let command = self.area.command(self.host, &entry);
        let done =
            self.host.runner.check(&command, Some(&self.log), &Limits::cancelled_by(self.cancel)).await;
        done.map(drop).map_err(BuildError::tool("prepare the tree for its steps"))
    }

    /// Removes everything of this build from the area.
    ///
    /// # Errors
    /// When something stays.
    pub(super) async fn remove(self) -> Result<(), BuildError> {
        self.area.remove(self.host, &self.folder).await?;
        let lock = self.area.host(&format!("{}.lock", self.folder));
        fs::remove_file(&lock).map_err(BuildError::io("remove", &lock))
    }

    fn entry(&self, program: &str, args: Vec<String>, chroot: bool) -> Entry {
        let part = |name: &str| PathBuf::from(format!("{}/{name}", self.folder));
        let mut entry = Entry::new(program).args(args);
        entry.chroot = chroot;
        entry.tree = Some(enter::Tree {
            layer: PathBuf::from(&self.layer),
            upper: part("upper"),
            scratch: part("scratch"),
            root: part("root"),
            stage: chroot.then(|| part("stage")),
        });
        entry
    }

    /// Puts a program where the tree sees it as `/run/sindri/<name>`.
    fn stage(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let path = self.area.host(&format!("{}/stage/{name}", self.folder));
        // Whoever runs the step reads it; the folder above the area keeps others out.
        area::write_program(&path, text)
    }
}

/// Removes what a killed provider left of a build. Nothing there is success.
///
/// # Errors
/// When something stays.
pub(super) async fn remove_left(host: &Host, area: &Area, id: Uuid) -> Result<(), BuildError> {
    area.remove(host, &folder(id)).await?;
    let _ = fs::remove_file(area.host(&lock_name(id)));
    Ok(())
}

/// Removes the trees of builds whose provider is gone.
pub(super) async fn remove_abandoned(host: &Host, area: &Area, log: &BuildLog) {
    let names = fs::read_dir(area.host("work")).into_iter().flatten().flatten();
    let ids =
        names.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".lock")?.parse::<Uuid>().ok());
    for id in ids {
        // Its provider holds the lock as long as it lives.
        let Ok(Some(_lock)) = area.try_lock(&lock_name(id), How::Exclusive) else { continue };
        log.line(&format!("Removing the remains of build {id}, whose provider ended"));
        if let Err(error) = remove_left(host, area, id).await {
            log.line(&format!("They stay: {error}"));
        }
    }
}

/// The right to a build's tree. Only one who looks for abandoned trees may hold the lock of a fresh id, and not for long.
fn claim(area: &Area, id: Uuid) -> Result<File, BuildError> {
    for _ in 0..100 {
        if let Some(lock) = area.try_lock(&lock_name(id), How::Exclusive)? {
            return Ok(lock);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(BuildError::Invalid(format!("the build {id} is already running")))
}

fn folder(id: Uuid) -> String {
    format!("work/{id}")
}

fn lock_name(id: Uuid) -> String {
    format!("work/{id}.lock")
}
