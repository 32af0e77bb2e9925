//! The cached layer: a bootstrapped tree that builds with the same request share and never change.
//!
//! It is made beside its place and renamed, under a lock, so that builds at the same time make it once. A layer
//! older than [`MAX_AGE`] is made anew, so that an image lacks at most a week of security updates, unless the
//! request names a snapshot, whose packages never change.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::area::{Area, write_program};
use super::bootstrap::{self, Place, Plan};
use super::distribution::{Distribution, Platform};
use super::layer_id::{Partitions, request};
use super::mirrors::Mirrors;
use super::reach::Reach;
use super::release::{self, Release};
use super::{BuildError, Here, Host};
use crate::backends::qemu::host::find_program;
use crate::backends::qemu::{Arch, Bootstrap};
use crate::process::enter::ENV_PREFIX;
use crate::process::lock::How;
use crate::process::{BuildLog, Command, Limits, ProcessError, private};

/// The age at which a layer is made anew.
pub const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The age at which a layer, or a download, that nobody asks for is removed.
pub(super) const FORGET: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the name of a layer in the making ends.
pub(super) const PARTIAL: &str = ".partial";

/// How many of a failed bootstrap's last lines are looked through, and shown.
const TAIL: usize = 40;

pub(super) const ESSENTIAL: &str = include_str!("../../../../../templates/scripts/bootstrap-essential.sh");
pub(super) const CUSTOMIZE: &str = include_str!("../../../../../templates/scripts/bootstrap-customize.sh");

/// A layer in use: as long as it lives, nobody replaces or removes it.
#[derive(Debug)]
pub(super) struct Layer {
    /// The tree, relative to the area.
    pub(super) root: String,
    /// The partitions' ids, also in the tree's fstab and loader entry.
    pub(super) partitions: Partitions,
    /// What is known of it.
    pub(super) about: About,
    /// How mirrors are reached.
    pub(super) reach: Reach,
    _lock: File,
}

impl Layer {
    /// The mirrors that its packages came from.
    ///
    /// # Errors
    /// When steps cannot be led to them.
    pub(super) fn mirrors(&self, spec: &Bootstrap, log: &BuildLog) -> Result<Arc<Mirrors>, BuildError> {
        Mirrors::new(&self.reach.mirrors(spec), &self.reach, log)
    }
}

/// What is known of a layer, kept beside it as `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// The distribution's release that the request led to.
    pub(super) resolved_base: String,
    /// No file of an image is dated later: the release's date, seconds since 1970.
    pub(super) epoch: i64,
    /// When it was made, seconds since 1970.
    pub(super) made: u64,
}

/// The layer for a request: the cached one, or a new one.
///
/// # Errors
/// When it has to be made and cannot be.
pub(super) async fn obtain(
    here: Here<'_>,
    area: &Area,
    spec: &Bootstrap,
    arch: Arch,
) -> Result<Layer, BuildError> {
    let Here { host, log, cancel } = here;
    let new = New::of(here, spec, arch).await?;
    let id = &new.id;
    let (folder, lock) = (new.folder(), format!("{}.lock", new.folder()));
    loop {
        let shared = area.lock(&lock, How::Shared, cancel).await?;
        if let Some(about) = new.cached(area) {
            log.line(&format!("Using the cached layer {} ({})", &id[..12], about.resolved_base));
            let _ = File::open(area.host(&folder).join("layer.json"))
                .and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(Layer {
                root: format!("{folder}/root"),
                partitions: new.partitions,
                about,
                reach: new.reach,
                _lock: shared,
            });
        }
        // Inside the namespaces it is looked for in folders of our choosing: what the user lacks is said before.
        if find_program("mmdebstrap").is_none() {
            let missing = ProcessError::Missing { program: "mmdebstrap".to_owned() };
            return Err(BuildError::tool("bootstrap the base system")(missing));
        }
        drop(shared);
        let Some(exclusive) = area.try_lock(&lock, How::Exclusive)? else {
            log.line("Waiting for another build that uses or makes the same layer");
            drop(area.lock(&lock, How::Exclusive, cancel).await?);
            continue;
        };
        // The lock came late: another build may have made the layer meanwhile.
        if new.cached(area).is_none() {
            forget_old(host, area, id).await;
            make(here, area, &new).await?;
        }
        drop(exclusive);
    }
}

/// What a build would start from now, in words: the cached layer, or what the mirror has. Makes nothing that stays.
///
/// # Errors
/// When that cannot be told.
pub(super) async fn next_base(
    here: Here<'_>,
    area: &Area,
    spec: &Bootstrap,
    arch: Arch,
) -> Result<String, BuildError> {
    let new = New::of(here, spec, arch).await?;
    if let Some(about) = new.cached(area) {
        return Ok(about.resolved_base);
    }
    let (plan, release) = plan(here, &new).await?;
    Ok(about(&plan, &release).resolved_base)
}

/// A layer to be made.
struct New<'a> {
    spec: &'a Bootstrap,
    arch: Arch,
    id: String,
    partitions: Partitions,
    reach: Reach,
}

impl<'a> New<'a> {
    async fn of(here: Here<'_>, spec: &'a Bootstrap, arch: Arch) -> Result<Self, BuildError> {
        let request = request(spec, arch);
        let reach = Reach::of_host(here).await?.towards(spec);
        Ok(Self { spec, arch, id: reach.id(&request, spec), partitions: Partitions::of(&request), reach })
    }

    /// Where it lies, relative to the area.
    fn folder(&self) -> String {
        format!("layers/{}", self.id)
    }

    /// The one that is there, if a build may begin with it: a dated archive's packages do not change.
    fn cached(&self, area: &Area) -> Option<About> {
        read(area, &self.folder()).filter(|about| self.spec.snapshot.is_some() || fresh(about))
    }
}

async fn make(here: Here<'_>, area: &Area, new: &New<'_>) -> Result<(), BuildError> {
    let Here { host, log, cancel } = here;
    let New { id, partitions, .. } = new;
    let (plan, release) = plan(here, new).await?;
    let partial = format!("{}{PARTIAL}", new.folder());
    area.remove(host, &partial).await?;
    let path = area.host(&partial);
    let about = about(&plan, &release);
    let place = Place { root_partuuid: partitions.root, esp_partuuid: partitions.esp, epoch: about.epoch };
    let done = async {
        area.make_open(&partial)?;
        for (name, script) in [("essential.sh", ESSENTIAL), ("customize.sh", CUSTOMIZE)] {
            write_program(&path.join(name), script)?;
        }
        log.step(&format!("Bootstrapping {}", about.resolved_base));
        plan.login.lend(host, area, &partial, &Limits::cancelled_by(cancel)).await?;
        let command = command(host, area, &partial, &plan, &place);
        run(here, area, &plan, &command).await?;
        plan.login.take_back(area, &partial)?;
        let json =
            serde_json::to_vec_pretty(&about).map_err(|error| BuildError::Invalid(error.to_string()))?;
        let file = path.join("layer.json");
        private::write(&file, &json).map_err(BuildError::io("write", &file))?;
        settle(&path).await
    };
    if let Err(error) = done.await {
        area.remove(host, &partial).await?;
        return Err(error);
    }
    remove(host, area, id).await?;
    fs::rename(&path, area.host(&new.folder())).map_err(BuildError::io("move", &path))
}

/// Has everything written out: dpkg was told to do without, and a layer with its proper name is whole, after a power cut
/// too.
async fn settle(path: &Path) -> Result<(), BuildError> {
    let folder = path.to_owned();
    let write_out =
        move || File::open(&folder).and_then(|folder| rustix::fs::syncfs(folder).map_err(Into::into));
    let written = tokio::task::spawn_blocking(write_out).await;
    written
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(BuildError::io("write out", path))
}

/// Packages' programs run there: of the area they see the layer in the making only.
fn command(host: &Host, area: &Area, folder: &str, plan: &Plan, place: &Place) -> Command {
    let command = area.command_in(host, &bootstrap::command(plan), folder);
    let told = bootstrap::environment(plan, place).into_iter();
    told.fold(command, |command, (name, value)| command.env(format!("{ENV_PREFIX}{name}"), value))
}

async fn run(here: Here<'_>, area: &Area, plan: &Plan, command: &Command) -> Result<(), BuildError> {
    let operation = format!("bootstrap {}", plan.suite);
    let limits = Limits::cancelled_by(here.cancel);
    let finished = here.host.runner.run(command, Some(here.log), &limits).await;
    let finished = finished.map_err(BuildError::tool(&operation))?;
    if finished.code == 0 {
        return Ok(());
    }
    Err(match bootstrap::explain(plan, &finished.tail(TAIL)) {
        BuildError::NoSpace { operation } => {
            BuildError::NoSpace { operation: format!("{operation} in {}", area.host("layers").display()) }
        }
        other => other,
    })
}

/// Finds mirrors and the release, and checks that the suite is there before minutes are spent.
async fn plan(here: Here<'_>, new: &New<'_>) -> Result<(Plan, Release), BuildError> {
    let New { spec, arch, reach: Reach { login, options, sources }, .. } = new;
    let unknown = |reason: String| BuildError::UnknownSuite { suite: spec.suite.clone(), reason };
    let known = Distribution::of_suite(&spec.suite);
    let (distribution, lines, keyrings, release) = if let Some(mirror) = &spec.mirror {
        let guess = known.unwrap_or(Distribution::Debian);
        let first = &bootstrap::mirror_lines(spec, guess, mirror, false)[0];
        let release = release::fetch(here, &first.uri, &spec.suite, login).await?;
        let release = release.ok_or_else(|| unknown(format!("{} has no such suite", first.uri)))?;
        let distribution = Distribution::of_origin(&release.origin).or(known);
        let distribution = distribution.ok_or_else(|| {
            unknown(format!("{} is neither Debian nor Ubuntu but {:?}", first.uri, release.origin))
        })?;
        let updates = Distribution::has_updates(&spec.suite)
            && release::fetch(here, &first.uri, &format!("{}-updates", spec.suite), login).await?.is_some();
        let lines = bootstrap::mirror_lines(spec, distribution, mirror, updates);
        if spec.security_mirror.is_some()
            && let Some(line) = lines.last()
            && release::fetch(here, &line.uri, &line.suite, login).await?.is_none()
        {
            let reason = format!("it has no suite {}", line.suite);
            return Err(BuildError::Mirror { url: line.uri.clone(), reason });
        }
        (distribution, lines, Vec::new(), release)
    } else {
        let distribution = known.ok_or_else(|| {
            unknown(
                "it is no suite of Debian or Ubuntu that Sindri knows; for another one set `mirror`"
                    .to_owned(),
            )
        })?;
        let (lines, keyrings) = bootstrap::host_lines(sources, distribution, &spec.suite)?;
        let uri = lines[0].uri.clone();
        let release = release::fetch(here, &uri, &spec.suite, login).await?;
        (distribution, lines, keyrings, release.ok_or_else(|| unknown(format!("{uri} has no such suite")))?)
    };
    let (package, keyring) = distribution.keyring();
    let keyring = keyring.ok_or(BuildError::NoKeyring { distribution: distribution.name(), package })?;
    let mut keyrings = keyrings;
    if !keyrings.contains(&keyring) {
        keyrings.push(keyring);
    }
    let plan = Plan {
        distribution,
        suite: spec.suite.clone(),
        lines,
        dated: spec.snapshot.is_some(),
        keyrings,
        packages: packages(distribution, spec, *arch),
        arch: *arch,
        apt_options: options.clone(),
        login: login.clone(),
    };
    Ok((plan, release))
}

fn packages(distribution: Distribution, spec: &Bootstrap, arch: Arch) -> Vec<String> {
    let base = distribution.packages(arch).into_iter().map(str::to_owned);
    let mut extra = spec.packages.clone();
    extra.sort();
    base.chain(extra).collect()
}

fn about(plan: &Plan, release: &Release) -> About {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let date =
        chrono::DateTime::from_timestamp(release.date, 0).map(|date| date.format("%Y-%m-%d").to_string());
    let words = [
        release.origin.as_str(),
        &release.codename,
        &release.version,
        Platform::of(plan.arch).deb_arch,
        &date.unwrap_or_default(),
    ];
    About {
        resolved_base: words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
        epoch: release.date,
        made: now,
    }
}

/// Removes a layer, or half of one. Whoever stops amid it leaves what nobody takes for a layer.
///
/// # Errors
/// When something of it stays.
pub(super) async fn remove(host: &Host, area: &Area, name: &str) -> Result<(), BuildError> {
    let folder = format!("layers/{name}");
    let about = area.host(&folder).join("layer.json");
    match fs::remove_file(&about) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(BuildError::io("remove", &about)(error));
        }
        _ => {}
    }
    area.remove(host, &folder).await
}

/// What is known of a layer; nothing of half of one.
pub(super) fn read(area: &Area, folder: &str) -> Option<About> {
    let bytes = fs::read(area.host(folder).join("layer.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn fresh(about: &About) -> bool {
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(about.made);
    made.elapsed().is_ok_and(|age| age < MAX_AGE)
}

/// Removes layers that nobody asked for in a long time, and halves that a killed provider left.
async fn forget_old(host: &Host, area: &Area, keep: &str) {
    let names = fs::read_dir(area.host("layers")).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let id = name.trim_end_matches(PARTIAL);
        if id == keep || name.ends_with(".lock") {
            continue;
        }
        let used =
            fs::metadata(area.host(&format!("layers/{name}/layer.json"))).and_then(|about| about.modified());
        let old = used.map_or(true, |used| used.elapsed().is_ok_and(|age| age > FORGET));
        if let (true, Ok(Some(_lock))) = (old, area.try_lock(&format!("layers/{id}.lock"), How::Exclusive)) {
            // Not ours to report: the next build tries again.
            let _ = remove(host, area, &name).await;
        }
    }
}
