//! `sweep`: removes what killed builds and launches left, on this computer and in clouds.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::backends::Backends;
use crate::backends::aws::sweep::{How, Swept, whose};
use crate::backends::aws::{Aws, model};
use crate::backends::qemu::sweep::Sweep;
use crate::domain::causes;
use crate::journal::Record;
use crate::resources::diagnose;

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
}

impl Asked {
    /// Reads the arguments after `sweep`.
    ///
    /// # Errors
    /// When one of them means nothing.
    pub(super) fn read(args: &[OsString]) -> Result<Self, String> {
        let (mut asked, mut args) = (Self::default(), args.iter());
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--dry-run") => asked.dry_run = true,
                Some("--region") => {
                    let name = args.next().and_then(|name| name.to_str()).ok_or("--region needs a region")?;
                    model::region(name)?;
                    asked.regions.push(name.to_owned());
                }
                Some("--all-regions") => asked.all_regions = true,
                Some("--build") => {
                    asked.build = Some(args.next().ok_or("--build needs a file of the journal")?.into());
                }
                Some("--data-dir") => drop(args.next()),
                _ => return Err(format!("{arg:?} means nothing to `sweep`")),
            }
        }
        Ok(asked)
    }

    /// Where to look in AWS; nothing when nothing says that it is used here.
    async fn regions(&self, aws: &Aws) -> Result<Option<Vec<String>>, String> {
        if self.all_regions {
            return aws.region_names().await.map(Some).map_err(|error| causes(&error));
        }
        let mut regions = Vec::new();
        if Aws::is_in_environment() {
            regions.push(aws.region_name(None).await);
        }
        regions.extend(self.regions.clone());
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

/// This computer, and these regions of AWS; none where nothing says that AWS is used here.
#[derive(Debug, Default)]
pub(super) struct Looked(Option<Vec<String>>);

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(regions) if regions.is_empty() => write!(f, "looked at this computer alone"),
            Some(regions) => write!(f, "looked at this computer, and at AWS in {}", regions.join(", ")),
            None => write!(
                f,
                "looked at this computer, and not at AWS: nothing here says that it is used. Set AWS_PROFILE, or AWS_REGION where credentials come from an instance's role, or say where with --region or --all-regions"
            ),
        }
    }
}

/// Sweeps.
///
/// # Errors
/// When the local store cannot be read, or the file that is named.
pub(super) async fn sweep(backends: &Backends, asked: &Asked) -> Result<Done, String> {
    let (mut done, cancel) = (Done::default(), CancellationToken::new());
    let verb = if asked.dry_run { "would remove" } else { "removed" };
    let how = if asked.dry_run { How::DryRun } else { How::Really };
    if let Some(file) = &asked.build {
        if let Some(record) = Record::take(file).map_err(|error| causes(&error))? {
            let settled = backends.settle(record, how, &cancel).await.map_err(|error| causes(&error));
            done.take(settled, how);
        }
        return Ok(done);
    }
    let local = if asked.dry_run { Sweep::DryRun } else { Sweep::Everything };
    let local = backends.local.sweep(local, &cancel).await.map_err(|error| diagnose::chain(&error))?;
    done.lines.extend(local.iter().map(|path| format!("{verb} {}", path.display())));
    if asked.dry_run {
        let mut machines = backends.local.machines().await;
        machines.retain(|(dir, _)| !local.contains(dir));
        done.machines = machines.into_iter().map(|(_, line)| line).collect();
    }
    let recovered = backends.aws.recover(None, how, &cancel).await;
    done.take(recovered.map_err(|error| causes(&error)), how);
    let recovered = backends.aws.recover_launches(None, how, &cancel).await;
    done.take(recovered.map_err(|error| causes(&error)), how);
    for record in backends.templates.abandoned().map_err(|error| causes(&error))? {
        let settled = backends.settle(record, how, &cancel).await;
        done.take(settled.map_err(|error| causes(&error)), how);
    }
    let regions = match asked.regions(&backends.aws).await {
        Ok(regions) => regions,
        Err(why) => {
            done.failures.push(why);
            Some(Vec::new())
        }
    };
    let mut looked = Vec::new();
    for region in regions.iter().flatten() {
        let overdue = backends.aws.sweep_overdue(Some(region), how, &cancel).await;
        let launches = backends.aws.sweep_overdue_launches(Some(region), how, &cancel).await;
        if overdue.is_ok() && launches.is_ok() {
            looked.push(region.clone());
        }
        done.take(overdue.map_err(|error| causes(&error)), how);
        done.take(launches.map_err(|error| causes(&error)), how);
    }
    done.looked = Some(Looked(regions.map(|_| looked)));
    Ok(done)
}

impl Done {
    fn take(&mut self, swept: Result<Vec<Swept>, String>, how: How) {
        let swept = match swept {
            Ok(swept) => swept,
            Err(why) => return self.failures.push(why),
        };
        for one in swept {
            match (one, how) {
                (Swept::Removed(it), How::DryRun) => self.lines.push(format!("would remove {it}")),
                (Swept::Removed(it), _) => self.lines.push(format!("removed {it}")),
                (Swept::Completed(it), How::DryRun) => self.lines.push(format!("would complete {it}")),
                (Swept::Completed(it), _) => self.lines.push(format!("completed {it}")),
                (Swept::Unclaimed(it), How::DryRun) => {
                    self.lines.push(format!("would take a claim off {it}"));
                }
                (Swept::Unclaimed(it), _) => self.lines.push(format!("took a claim off {it}")),
                (Swept::Left { build, region, why }, _) => {
                    self.failures.push(format!("{} in {region}: {}", whose(&build), causes(&why)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_what_to_sweep() {
        let read = |args: &[&str]| Asked::read(&args.iter().map(OsString::from).collect::<Vec<_>>());
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
        ] {
            assert_eq!(read(args), Ok(expected), "{args:?}");
        }
        assert_eq!(read(&["--build", "/d/journal/x.json"]).unwrap().data_dir(), Some(Path::new("/d")));
        for wrong in [&["--region"][..], &["--region", "Oregon"], &["--build"], &["--everything"], &["x"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
