//! `qemu = { … }` of an image, as it stands in configuration and state.

use std::path::PathBuf;
use std::sync::Arc;

use tfplugin::{Attr, Diagnostics, Model, Path};

use super::{Arch, Base, Bootstrap, CLOUD, DiskFormat, Engine, ImageSource, Network, QemuImageSpec, REGION};
use crate::backends::{ImageAround, ImageSection, Target};
use crate::domain::rules::{arch, one_of, positive};
use crate::domain::{Image, names};

/// The processors of a guest when the user does not say.
pub(super) const CPUS: u32 = 2;
/// Its memory in MiB then.
pub(super) const MEMORY_MB: u32 = 2048;
/// The size of an image's disk in GiB then.
const DISK_SIZE_GB: u32 = 10;

/// Builds the image on this computer with QEMU.
#[derive(Debug, Clone, Default, Model)]
pub struct QemuImageModel {
    /// What the image starts from: exactly one of `bootstrap` and `image`.
    #[attr(optional)]
    pub base: Attr<BaseModel>,
    /// The guest's architecture: `"x86_64"` or `"arm64"`. With `bootstrap` it has to be this computer's own.
    #[attr(optional, default = Arch::default().name().to_owned(), validate = arch)]
    pub arch: Attr<String>,
    /// The disk's size as the guest sees it, in GiB. It takes up only what is in it.
    #[attr(optional, default = DISK_SIZE_GB, validate = positive)]
    pub disk_size_gb: Attr<u32>,
    /// The guest's memory while the image is built and verified, in MiB.
    #[attr(optional, default = MEMORY_MB, validate = memory)]
    pub memory_mb: Attr<u32>,
    /// The guest's processors while the image is built and verified.
    #[attr(optional, default = CPUS, validate = positive)]
    pub cpus: Attr<u32>,
    /// The disk's format: `"qcow2"`, `"raw"` or `"vmdk"`.
    #[attr(optional, default = "qcow2", validate = format)]
    pub format: Attr<String>,
    /// Whether the disk is compressed; not possible with `"raw"`, where it is ignored.
    #[attr(optional, default = true)]
    pub compress: Attr<bool>,
    /// What the steps can reach: `"user"`, all that this computer can reach; `"mirror"`, the package mirrors of the build and
    /// nothing else; or `"none"`. The mirrors are the hosts, with their ports, of the `bootstrap`'s `mirror` and
    /// `security_mirror`, or of this computer's APT sources for it; with a base `image`, those that its own APT sources name
    /// before the first step. Steps reach them through `http_proxy` and `https_proxy` in their environment: what drops
    /// that, as `sudo` does, reaches nothing. What is refused is in the build's log. It holds for `verify`, too, and needs
    /// `engine = "native"`.
    #[attr(optional, default = "user", validate = network)]
    pub network: Attr<String>,
    /// Whether the steps run in a booted guest. When not set, they run in the file tree, before there is a disk,
    /// if the base is `bootstrap`, `arch` this computer's own, and `engine` `"native"`: that is faster. Else they run in a
    /// guest, in which cloud-init has made the disk large and let us in, and leaves its later stages (package sources,
    /// `runcmd`) to the machines from the image.
    #[attr(optional)]
    pub boot: Attr<bool>,
    /// Who boots the guest and runs the steps in it: `"native"`, this provider itself, or `"packer"`, the qemu builder of
    /// the Packer that is installed (1.6.6 or later). Both make the same image; with `boot = true`, a change of this
    /// alone builds nothing.
    #[attr(optional, default = "native", validate = engine)]
    pub engine: Attr<String>,
}

/// What an image starts from.
#[derive(Debug, Clone, Default, Model)]
pub struct BaseModel {
    /// A system made from a distribution's packages. It installs no updates by itself: APT's daily timers are masked, so that
    /// machines from one image stay alike. `systemctl unmask apt-daily.timer apt-daily-upgrade.timer` in a step, and the
    /// package `unattended-upgrades`, change that. It is kept on this computer, and images that are built within the next 7 days
    /// begin with it, unless there is a `snapshot`, with which they always do: so the packages of a new image may be 7 days old.
    /// A step that runs `apt-get update && apt-get -y upgrade` brings what is newer, and `terraform-provider-sindri prune
    /// --layers` has the next build make it anew.
    #[attr(optional)]
    pub bootstrap: Attr<BootstrapModel>,
    /// The path or the `http(s)` URL of a disk image (qcow2, raw or vmdk, without a backing file).
    #[attr(optional, validate = names::text)]
    pub image: Attr<String>,
    /// SHA-256 of that image, 64 hex digits. Required with a URL.
    #[attr(optional, validate = sha256)]
    pub sha256: Attr<String>,
}

/// A system made from a distribution's packages.
#[derive(Debug, Clone, Default, Model)]
pub struct BootstrapModel {
    /// A Debian or Ubuntu suite, such as `"bookworm"` or `"noble"`.
    #[attr(required, validate = suite)]
    pub suite: Attr<String>,
    /// The URL of the package mirror; when not set, this computer's own APT sources are used, the security archive among
    /// them. How mirrors are reached is taken from this computer's APT either way: proxies, certificates, and logins in
    /// `/etc/apt/auth.conf` and `auth.conf.d` or in a proxy's address, where whoever runs this may read them. Of the logins,
    /// those of mirrors that the image's packages come from are for the base system, its `packages`, and APT in steps that run
    /// without a boot, whose root can read them: no image gets to know them, nor a guest.
    #[attr(optional, validate = mirror)]
    pub mirror: Attr<String>,
    /// The URL of the archive with the suite's security updates, beside `mirror`. Debian's is another one than that of the
    /// suite: with a `mirror` alone the image has no security updates, and does not get any later. Ubuntu's are in `mirror`.
    #[attr(optional, validate = mirror)]
    pub security_mirror: Attr<String>,
    /// A moment of a snapshot archive, such as `"20260101T000000Z"`, below the `mirror`, which names the archive, and below
    /// the `security_mirror`.
    #[attr(optional, validate = snapshot)]
    pub snapshot: Attr<String>,
    /// Packages beside the base system.
    #[attr(optional, validate = packages)]
    pub packages: Attr<Vec<String>>,
}

impl QemuImageModel {
    /// Checks what can be said before values are known: an unknown value may turn out to be null. `existing` is the id
    /// of an image that is adopted instead of built.
    fn check(&self, existing: &Attr<String>, path: &Path, diags: &mut Diagnostics) {
        let at = path.attr("base");
        let Attr::Known(base) = &self.base else {
            if self.base.is_null() && existing.is_null() {
                let text = "Say what the image starts from: `base = { bootstrap = { suite = \"bookworm\" } }` or `base = { image = \"…\" }`.";
                diags.error(at, "No base", text);
            }
            return;
        };
        if existing.is_known() {
            let text = "`existing_image_id` adopts an image as it is; `base` describes one that is built. Remove one of them.";
            diags.error(at, "Conflicting attributes", text);
            return;
        }
        match (&base.bootstrap, &base.image) {
            (Attr::Null, Attr::Null) => diags.error(at, "No base", "Set one of `bootstrap` and `image`."),
            (Attr::Known(_), Attr::Known(_)) => {
                diags.error(at, "Two bases", "Set only one of `bootstrap` and `image`.");
            }
            _ => base.validate(&at, diags),
        }
    }

    /// What the builder needs to know. All values are known; none when `diags` tells what is wrong.
    fn spec(&self, path: &Path, diags: &mut Diagnostics) -> Option<QemuImageSpec> {
        let Some(base) = self.base.known().and_then(BaseModel::spec) else {
            diags.error(path.attr("base"), "No base", "Set one of `bootstrap` and `image`.");
            return None;
        };
        let arch = Arch::of_name(self.arch.known_deref());
        let engine =
            if self.engine.known_deref() == Some("packer") { Engine::Packer } else { Engine::Native };
        let in_tree =
            matches!(base, Base::Bootstrap(_)) && Arch::host() == Some(arch) && engine == Engine::Native;
        Some(QemuImageSpec {
            base,
            arch,
            disk_size_gb: self.disk_size_gb.unwrap_or(DISK_SIZE_GB),
            memory_mb: self.memory_mb.unwrap_or(MEMORY_MB),
            cpus: self.cpus.unwrap_or(CPUS),
            format: match self.format.known_deref() {
                Some("raw") => DiskFormat::Raw,
                Some("vmdk") => DiskFormat::Vmdk,
                _ => DiskFormat::Qcow2,
            },
            compress: self.compress.unwrap_or(true),
            network: self.network.known_deref().and_then(Network::parse).unwrap_or(Network::User),
            boot: self.boot.unwrap_or(!in_tree),
            engine,
        })
    }
}

impl ImageSection for QemuImageModel {
    fn cloud(&self) -> &'static str {
        CLOUD
    }

    fn offer(&self) -> &'static str {
        "`qemu = { … }` builds the image on this computer"
    }

    fn region(&self) -> Attr<&str> {
        Attr::Known(REGION)
    }

    fn content(&self) -> Option<&'static [&'static str]> {
        None
    }

    fn validate(&self, around: &ImageAround<'_>, path: &Path, diags: &mut Diagnostics) {
        self.check(around.existing, path, diags);
    }

    fn target(
        &self,
        _config: Option<&dyn ImageSection>,
        _region: &str,
        path: &Path,
        diags: &mut Diagnostics,
    ) -> Option<Arc<dyn Target>> {
        Some(Arc::new(self.spec(path, diags)?))
    }

    fn without_packer(&self) -> Option<&'static str> {
        let packer = self.engine.is_unknown() || self.engine.known_deref() == Some("packer");
        (!packer).then_some(
            "The native engine uses no Packer: there are scripts to be seen, and no template. Remove this, or set `qemu.engine = \"packer\"`.",
        )
    }

    fn imported(_image: &Image, _home: &str) -> Self {
        Self::default()
    }
}

impl BaseModel {
    fn validate(&self, path: &Path, diags: &mut Diagnostics) {
        let is_url = self.image.known().is_some_and(|image| is_url(image));
        if is_url && self.sha256.is_null() {
            let text = "An image from a URL is only used when its content is the expected one: set `sha256`.";
            diags.error(path.attr("sha256"), "Missing checksum", text);
        }
        if self.image.is_null() && self.sha256.is_known() {
            let text = "`sha256` belongs to `image`; packages are verified by the distribution's signatures.";
            diags.error(path.attr("sha256"), "Unused attribute", text);
        }
        let Some(bootstrap) = self.bootstrap.known().filter(|bootstrap| bootstrap.mirror.is_null()) else {
            return;
        };
        let at = path.attr("bootstrap").attr("mirror");
        if bootstrap.snapshot.is_known() {
            let text = "A snapshot is a folder below a snapshot archive: set `mirror` to the archive's URL.";
            diags.error(at, "Missing mirror", text);
        } else if bootstrap.security_mirror.is_known() {
            let text = "`security_mirror` stands beside `mirror`; without one, this computer's own APT sources are used, their security archive among them.";
            diags.error(at, "Missing mirror", text);
        }
    }

    fn spec(&self) -> Option<Base> {
        if let Some(bootstrap) = self.bootstrap.known() {
            return Some(Base::Bootstrap(Bootstrap {
                suite: bootstrap.suite.known()?.clone(),
                mirror: bootstrap.mirror.known().cloned(),
                security_mirror: bootstrap.security_mirror.known().cloned(),
                snapshot: bootstrap.snapshot.known().cloned(),
                packages: bootstrap.packages.clone().unwrap_or_default(),
            }));
        }
        let image = self.image.known()?;
        let source = if is_url(image) {
            ImageSource::Url(image.clone())
        } else {
            ImageSource::Path(PathBuf::from(image))
        };
        Some(Base::Image { source, sha256: self.sha256.known().map(|digits| digits.to_ascii_lowercase()) })
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn format(value: &str) -> Result<(), String> {
    one_of(value, &["qcow2", "raw", "vmdk"])
}

fn engine(value: &str) -> Result<(), String> {
    one_of(value, &["native", "packer"])
}

fn network(value: &str) -> Result<(), String> {
    one_of(value, &["user", "mirror", "none"])
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "validators take references")]
fn memory(value: &u32) -> Result<(), String> {
    if *value >= 256 { Ok(()) } else { Err("must be at least 256: less does not boot".into()) }
}

fn sha256(value: &str) -> Result<(), String> {
    if value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err("must be 64 hex digits, as `sha256sum` prints them".into())
}

fn suite(value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if (1..=40).contains(&value.len()) && value.chars().all(allowed) && !value.starts_with(['-', '.']) {
        return Ok(());
    }
    Err(format!("{value:?} is no suite: write its code name, such as \"bookworm\" or \"noble\""))
}

fn mirror(value: &str) -> Result<(), String> {
    url(value)?;
    let host = value.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if host.contains('@') {
        return Err("holds a user or a password, which would show in process lists and in the image: leave it out, and \
             put it into `/etc/apt/auth.conf.d` of this computer".into());
    }
    Ok(())
}

fn url(value: &str) -> Result<(), String> {
    names::text(value)?;
    if is_url(value) && !value.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'`[]".contains(c))
    {
        return Ok(());
    }
    Err(format!("{value:?} is no http(s) URL"))
}

fn snapshot(value: &str) -> Result<(), String> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let form = match value.split_once('T') {
        Some((day, time)) => {
            day.len() == 8 && digits(day) && time.len() == 7 && time.ends_with('Z') && digits(&time[..6])
        }
        None => value.len() == 8 && digits(value),
    };
    if form {
        return Ok(());
    }
    Err(format!("{value:?} is no moment: write it as \"20260101T000000Z\" or \"20260101\""))
}

#[expect(clippy::ptr_arg, reason = "validators take what the attribute holds")]
fn packages(names: &Vec<String>) -> Result<(), String> {
    // Debian Policy 5.6.7; an architecture may follow.
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.:".contains(c);
    let good = |name: &&String| {
        name.len() >= 2
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.chars().all(allowed)
    };
    match names.iter().find(|name| !good(name)) {
        None => Ok(()),
        Some(bad) => Err(format!("{bad:?} is no package's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backends::section::with_defaults;

    /// A data source gets no defaults: the key that it shows is that of the image all the same.
    #[test]
    fn what_is_not_said_is_the_schemas_default() {
        let base = BaseModel { image: "x".into(), ..BaseModel::default() };
        let spec = |model: QemuImageModel| {
            let model = QemuImageModel { base: Attr::Known(base.clone()), ..model };
            model.spec(&Path::root(), &mut Diagnostics::new()).unwrap()
        };
        assert_eq!(spec(with_defaults()), spec(QemuImageModel::default()));
    }
}
