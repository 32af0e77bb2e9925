//! `sweep`: removes what killed builds and launches left, on this computer and in clouds.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::args::Args;
use crate::backends::qemu::sweep::Sweep;
use crate::backends::{About, Backends, Cloud, Swept, Unswept};
use crate::diagnose;
use crate::domain::{BackendError, causes};
use crate::journal::Record;

/// What is to be swept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    dry_run: bool,
    /// Beside the one that is configured.
    regions: Vec<String>,
    /// All that the account may use.
    all_regions: bool,
    /// One entry of a journal and nothing else: what a supervisor asks for.
    build: Option<PathBuf>,
    /// One machine of this computer and nothing else.
    vm: Option<String>,
}

impl Asked {
    /// Reads the arguments after `sweep`.
    ///
    /// # Errors
    /// When one of them means nothing, or nothing together with the others.
    pub(super) fn read(args: &mut Args<'_>) -> Result<Self, String> {
        let mut asked = Self::default();
        while let Some(word) = args.take()? {
            match word.to_str() {
                Some("--dry-run") => asked.dry_run = true,
                Some("--region") => {
                    let name = args.text("--region needs a region")?;
                    About::check_region(name)?;
                    asked.regions.push(name.to_owned());
                }
                Some("--all-regions") => asked.all_regions = true,
                Some("--build") => {
                    asked.build = Some(args.value("--build needs a file of the journal")?.into());
                }
                Some("--vm") if asked.vm.is_some() => {
                    return Err("--vm removes one machine a call".to_owned());
                }
                Some("--vm") => {
                    let id = args.text("--vm needs the id of a machine of this computer")?;
                    asked.vm = Some(id.to_owned());
                }
                _ => return Err(args.unknown(word)),
            }
        }
        if asked.vm.is_some() && (asked.build.is_some() || asked.all_regions || !asked.regions.is_empty()) {
            return Err("--vm removes one machine of this computer and nothing else".to_owned());
        }
        Ok(asked)
    }

    /// Where to look in a cloud; nothing when nothing says that it is used here.
    async fn regions(&self, cloud: &dyn Cloud) -> Result<Option<Vec<String>>, String> {
        if self.all_regions {
            return cloud.all_regions().await.map(Some).map_err(|error| causes(error.as_ref()));
        }
        let mut regions = Vec::new();
        if cloud.is_in_environment() {
            regions.push(cloud.home().await);
        }
        let has = |name: &&String| cloud.about().region.is_some_and(|check| check(name).is_ok());
        regions.extend(self.regions.iter().filter(has).cloned());
        let mut seen = BTreeSet::new();
        regions.retain(|region| seen.insert(region.clone()));
        Ok((!regions.is_empty()).then_some(regions))
    }

    /// The folder of the entry that is named.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.build.as_deref()?.parent()?.parent()
    }
}

/// What was done, a line each, and what could not be done.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Where was looked.
    pub(super) looked: Option<Looked>,
    pub(super) lines: Vec<String>,
    /// The machines that stay, when nothing is removed.
    pub(super) machines: Vec<String>,
    pub(super) failures: Vec<String>,
}

/// This computer, and these regions of clouds; none where nothing says that a cloud is used here.
#[derive(Debug, Default)]
pub(super) struct Looked(Vec<(&'static About, Option<Vec<String>>)>);

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("looked at this computer")?;
        if self.0.iter().all(|(_, regions)| regions.as_ref().is_some_and(Vec::is_empty)) {
            f.write_str(" alone")?;
        }
        for (About { title, set_up, .. }, regions) in &self.0 {
            match regions {
                Some(regions) if regions.is_empty() => {}
                Some(regions) => write!(f, ", and at {title} in {}", regions.join(", "))?,
                None => write!(
                    f,
                    ", and not at {title}: nothing here says that it is used. {set_up}, or say where with --region or --all-regions"
                )?,
            }
        }
        Ok(())
    }
}

/// Sweeps.
///
/// # Errors
/// When the local store cannot be read, or the file that is named.
pub(super) async fn sweep(backends: &Backends, asked: &Asked) -> Result<Done, String> {
    let (mut done, cancel) = (Done::default(), CancellationToken::new());
    let dry_run = asked.dry_run;
    let verb = if dry_run { "would remove" } else { "removed" };
    if let Some(file) = &asked.build {
        if let Some(record) = Record::take(file).map_err(|error| causes(&error))? {
            done.take(backends.settle(record, dry_run, &cancel).await, dry_run);
        }
        return Ok(done);
    }
    if let Some(id) = &asked.vm {
        let removed = backends.local.remove_machine(id, dry_run, &cancel).await;
        let removed = removed.map_err(|error| match error {
            BackendError::NotFound { .. } => {
                format!("{id:?} is no machine of this computer: `sweep --dry-run` lists those that there are")
            }
            error => diagnose::chain(&error),
        })?;
        done.lines.push(format!("{verb} {removed}"));
        return Ok(done);
    }
    let local = if dry_run { Sweep::DryRun } else { Sweep::Everything };
    let local = backends.local.sweep(local, &cancel).await.map_err(|error| diagnose::chain(&error))?;
    done.lines.extend(local.iter().map(|path| format!("{verb} {}", path.display())));
    if dry_run {
        let mut machines = backends.local.machines().await;
        machines.retain(|(dir, _)| !local.contains(dir));
        done.machines = machines.into_iter().map(|(_, line)| line).collect();
    }
    let mut clouds = backends.clouds();
    clouds.retain(|cloud| cloud.about().region.is_some());
    for cloud in &clouds {
        for recovered in cloud.recover(dry_run, &cancel).await {
            done.take(recovered, dry_run);
        }
    }
    for record in backends.templates.abandoned().map_err(|error| causes(&error))? {
        done.take(backends.settle(record, dry_run, &cancel).await, dry_run);
    }
    let mut looked = Looked::default();
    for cloud in &clouds {
        let regions = match asked.regions(cloud.as_ref()).await {
            Ok(regions) => regions,
            Err(why) => {
                done.failures.push(why);
                Some(Vec::new())
            }
        };
        let mut there = Vec::new();
        for region in regions.iter().flatten() {
            let swept = cloud.sweep(region, dry_run, &cancel).await;
            if swept.iter().all(Result::is_ok) {
                there.push(region.clone());
            }
            swept.into_iter().for_each(|swept| done.take(swept, dry_run));
        }
        looked.0.push((cloud.about(), regions.map(|_| there)));
    }
    done.looked = Some(looked);
    Ok(done)
}

impl Done {
    fn take(&mut self, swept: Result<Vec<Swept>, Unswept>, dry_run: bool) {
        let swept = match swept {
            Ok(swept) => swept,
            Err(why) => {
                let why = causes(why.as_ref());
                // Who has no credentials hears it once.
                if !self.failures.contains(&why) {
                    self.failures.push(why);
                }
                return;
            }
        };
        for one in swept {
            let line = match (one, dry_run) {
                (Swept::Removed(it), true) => format!("would remove {it}"),
                (Swept::Removed(it), false) => format!("removed {it}"),
                (Swept::Completed(it), true) => format!("would complete {it}"),
                (Swept::Completed(it), false) => format!("completed {it}"),
                (Swept::Unclaimed(it), true) => format!("would take a claim off {it}"),
                (Swept::Unclaimed(it), false) => format!("took a claim off {it}"),
                (Swept::Left { what, why }, _) => {
                    self.failures.push(format!("{what}: {}", causes(why.as_ref())));
                    continue;
                }
            };
            self.lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn arguments_say_what_to_sweep() {
        let read = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            Asked::read(&mut Args::of("sweep", &args))
        };
        let regions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (args, expected) in [
            (&[][..], Asked::default()),
            (&["--dry-run", "--data-dir", "/d"], Asked { dry_run: true, ..Asked::default() }),
            (
                &["--region", "us-west-2", "--region", "eu-central-1"],
                Asked { regions: regions(&["us-west-2", "eu-central-1"]), ..Asked::default() },
            ),
            (&["--all-regions"], Asked { all_regions: true, ..Asked::default() }),
            (
                &["--build", "/d/journal/x.json"],
                Asked { build: Some("/d/journal/x.json".into()), ..Asked::default() },
            ),
            (&["--vm", "x", "--dry-run"], Asked { vm: Some("x".into()), dry_run: true, ..Asked::default() }),
        ] {
            assert_eq!(read(args), Ok(expected), "{args:?}");
        }
        assert_eq!(read(&["--build", "/d/journal/x.json"]).unwrap().data_dir(), Some(Path::new("/d")));
        let told = read(&["--vm", "--data-dir", "/d"]).unwrap_err();
        assert!(told.starts_with("--vm needs"), "{told}");
        for wrong in [
            &["--region"][..],
            &["--region", "Oregon"],
            &["--build"],
            &["--everything"],
            &["x"],
            &["--vm"],
            &["--region", "--all-regions"],
            &["--vm", "x", "--vm", "y"],
            &["--vm", "x", "--all-regions"],
            &["--region", "us-west-2", "--vm", "x"],
            &["--vm", "x", "--build", "/d/journal/x.json"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
