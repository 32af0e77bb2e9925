//! `sindri_vm` as it stands in configuration and state.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tfplugin::{Attr, Diagnostic, Diagnostics, Model, Path, Timeouts};

use crate::backends::aws::model::AwsVmModel;
use crate::backends::qemu::vm_model::QemuVmModel;
use crate::backends::{VmAround, VmSection, VmSlot, chosen};
use crate::domain::rules::{one_of, port};
use crate::domain::vm_spec::{PowerState, SshAccess, VmSpec, WaitFor};
use crate::domain::{Tagging, names};
use crate::process::Secret;

/// A machine, launched from an image: started, stopped, looked after, destroyed.
///
/// Exactly one of `qemu` and `aws` says where it runs.
#[derive(Debug, Clone, Default, Model)]
pub struct VmModel {
    /// The machine's name, also its host name. A change makes the machine anew.
    #[attr(required, validate = names::object)]
    pub name: Attr<String>,
    /// The image that it starts from: `sindri_image.….image_id`. Another one makes the machine anew.
    #[attr(required, requires_replace)]
    pub image_id: Attr<String>,
    /// `"running"` or `"stopped"`; changes in place.
    #[attr(optional, default = "running", validate = power_state)]
    pub power_state: Attr<String>,
    /// What cloud-init reads at first boot, passed on unchanged. At most 16 KiB on AWS.
    #[attr(optional, validate = names::text)]
    pub user_data: Attr<String>,
    /// Like `user_data`, for secrets: never stored in plan or state.
    #[attr(optional, write_only)]
    pub user_data_wo: Attr<String>,
    /// Stands for `user_data_wo`: raise it when the value changes.
    #[attr(optional)]
    pub user_data_wo_version: Attr<i64>,
    /// Whether a change of user data makes the machine anew. If not, the change is recorded and has no effect on a
    /// machine that has booted: cloud-init runs once.
    #[attr(optional, default = false)]
    pub user_data_replace_on_change: Attr<bool>,
    /// Who may log in. Another `public_key` makes the machine anew; on this computer another `username` does, too. The rest
    /// changes in place.
    #[attr(optional)]
    pub ssh: Attr<SshModel>,
    /// What create and start wait for: `"ssh"` (until an SSH server answers; user data may not be applied yet),
    /// `"cloud-init"` (until it is done, user data included), or `"none"`. With `"ssh"` nobody logs in on AWS. On this
    /// computer a login is tried, too, for 30 seconds (180 without hardware acceleration): one that is refused stands in the
    /// log alone.
    #[attr(optional, default = "ssh", validate = wait_for)]
    pub wait_for: Attr<String>,
    /// Tags of the machine. They win over the provider's `default_tags`.
    #[attr(optional)]
    pub tags: Attr<BTreeMap<String, String>>,
    /// Runs the machine on this computer with QEMU.
    #[attr(optional)]
    pub qemu: Attr<QemuVmModel>,
    /// Runs the machine on AWS, as an EC2 instance. A change of what is not said to change in place makes it anew.
    #[attr(optional)]
    pub aws: Attr<AwsVmModel>,
    /// How long the operations may take: when not set, 10 minutes to create or update, 5 to read or delete.
    #[attr(optional)]
    pub timeouts: Attr<Timeouts>,

    /// The machine's own id.
    #[attr(computed, keep_prior)]
    pub id: Attr<String>,
    /// Where it runs: `"qemu"` or `"aws"`.
    #[attr(computed, keep_prior)]
    pub cloud: Attr<String>,
    /// The region where it runs; `"local"` on this computer.
    #[attr(computed, keep_prior)]
    pub region: Attr<String>,
    /// `"running"` or `"stopped"`, as it was when last looked at. `"terminated"` when somebody ended the machine and what was
    /// made for it is left: the next apply replaces it.
    #[attr(computed)]
    pub status: Attr<String>,
    /// The public address; null for a machine on this computer, and where there is none.
    #[attr(computed, keep_prior)]
    pub public_ip: Attr<String>,
    /// The private address; null for a machine on this computer.
    #[attr(computed, keep_prior)]
    pub private_ip: Attr<String>,
    /// Where SSH listens.
    #[attr(computed, keep_prior)]
    pub ssh_host: Attr<String>,
    /// On which port SSH listens.
    #[attr(computed, keep_prior)]
    pub ssh_port: Attr<u16>,
    /// Who logs in.
    #[attr(computed, keep_prior)]
    pub ssh_username: Attr<String>,
    /// A command that logs in.
    #[attr(computed, keep_prior)]
    pub ssh_command: Attr<String>,
    /// The private key that logs in.
    #[attr(computed, keep_prior)]
    pub ssh_private_key_path: Attr<String>,
    /// A known-hosts file with the machine's host key.
    #[attr(computed, keep_prior)]
    pub ssh_known_hosts_path: Attr<String>,
    /// A file with what the machine prints on its console. In a cloud there is one when nobody answered there, else null.
    /// On this computer it is cut to its newest part whenever the provider looks at the machine; in between it grows by all
    /// that is printed.
    #[attr(computed, keep_prior)]
    pub console_log_path: Attr<String>,
    /// The machine's tags and the provider's `default_tags` together.
    #[attr(computed)]
    pub tags_all: Attr<BTreeMap<String, String>>,
    /// Which local store has the machine; null in a cloud.
    #[attr(computed, keep_prior)]
    pub store_id: Attr<String>,
}

/// Who may log in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Model)]
pub struct SshModel {
    /// The user. On this computer `"sindri"` when not set, made at first boot with the right to use sudo. In a
    /// cloud the key goes to the image's own first user: `"ubuntu"` when not set.
    #[attr(optional, validate = names::user)]
    pub username: Attr<String>,
    /// A public key in OpenSSH's format.
    #[attr(optional, validate = public_key)]
    pub public_key: Attr<String>,
    /// The path of the private key that belongs to `public_key`, for `wait_for` and `ssh_command`.
    #[attr(optional, validate = path)]
    pub private_key_path: Attr<String>,
    /// Where SSH is reached when that is not the machine's own address: a forward, a NAT. Not for a machine on this
    /// computer.
    #[attr(optional, validate = host)]
    pub host: Attr<String>,
    /// The port on which SSH is reached, 22 when not set. Not for a machine on this computer.
    #[attr(optional, validate = port)]
    pub port: Attr<u16>,
}

impl VmModel {
    /// Checks what can be said before values are known. An unknown value may turn out to be null, and is no mistake.
    pub fn validate(&self, diags: &mut Diagnostics) {
        let (root, all) = (Path::root(), self.slots());
        let set = all.iter().filter(|slot| !slot.section().is_null()).count();
        if set == 0 || all.iter().filter(|slot| slot.section().is_known()).count() > 1 {
            diags.push(self.not_one(if set == 0 { "No backend" } else { "Two backends" }).at(root.clone()));
        }
        if self.user_data.is_known() && self.user_data_wo.is_known() {
            let text = "Set one of `user_data` and `user_data_wo`.";
            diags.error(root.attr("user_data_wo"), "Conflicting attributes", text);
        }
        if let Attr::Known(ssh) = &self.ssh {
            let at = root.attr("ssh");
            if ssh.public_key.is_null() && ssh.private_key_path.is_known() {
                let text =
                    "Set `public_key` too: it is what the machine gets. Without both, a fresh pair is made.";
                diags.error(at.attr("public_key"), "Half a key pair", text);
            }
            let waits = matches!(self.wait_for.known_deref(), Some("cloud-init"));
            if waits && ssh.public_key.is_known() && ssh.private_key_path.is_null() {
                let text =
                    "Waiting for cloud-init needs a login: set `private_key_path`, or `wait_for = \"ssh\"`.";
                diags.error(at.attr("private_key_path"), "No private key", text);
            }
        }
        let around = self.around();
        for section in all.iter().filter_map(|slot| slot.section().into_known()) {
            section.validate(&around, &root.attr(section.cloud()), diags);
        }
    }

    /// That not exactly one backend is configured.
    pub(super) fn not_one(&self, summary: &str) -> Diagnostic {
        let offers: Vec<_> = self.slots().iter().map(|slot| slot.offer()).collect();
        Diagnostic::error(summary, format!("Set exactly one: {}.", offers.join(", ")))
    }

    fn around(&self) -> VmAround<'_> {
        let elsewhere = match &self.ssh {
            Attr::Unknown => true,
            ssh => ssh.known().is_some_and(|ssh| !ssh.host.is_null()),
        };
        let waits = !self.wait_for.is_unknown() && self.wait_for.known_deref() != Some("none");
        let ways = self.ssh.known().map(|ssh| [("host", ssh.host.is_known()), ("port", ssh.port.is_known())]);
        VmAround {
            power_state: &self.power_state,
            user_data: [("user_data", &self.user_data), ("user_data_wo", &self.user_data_wo)],
            tags: &self.tags,
            ssh_ways: ways.into_iter().flatten().filter(|(_, known)| *known).map(|(name, _)| name).collect(),
            is_reached: waits && !elsewhere,
        }
    }

    /// `CLOUD = { … }` of each cloud: what a new one adds to, here and in the next function.
    pub(super) fn slots(&self) -> Vec<&dyn VmSlot> {
        vec![&self.qemu, &self.aws]
    }

    /// The same, to be changed.
    pub(super) fn slots_mut(&mut self) -> Vec<&mut dyn VmSlot> {
        vec![&mut self.qemu, &mut self.aws]
    }

    /// Who runs it; unknown as long as that may still turn out.
    pub(super) fn section(&self) -> Attr<&dyn VmSection> {
        chosen(self.slots().into_iter().map(VmSlot::section))
    }

    /// The backend's name in state, by what is configured.
    pub fn configured_cloud(&self) -> &'static str {
        self.section().known().map(|section| section.cloud()).unwrap_or_default()
    }

    /// Who logs in when the user does not say.
    pub fn default_user(&self) -> &'static str {
        self.section().known().map(|section| section.first_user()).unwrap_or_default()
    }

    /// The machine as asked for. `self` is the plan, all of it known; `config` has the secrets.
    pub fn spec(&self, config: &Self, tags: &BTreeMap<String, String>) -> VmSpec {
        let ssh = self.ssh.clone().unwrap_or_default();
        let user_data = config.user_data_wo.known().or(self.user_data.known());
        VmSpec {
            name: self.name.clone().unwrap_or_default(),
            power_state: self.power_state(),
            user_data: user_data.map(|text| Secret::new(text.as_str())),
            user_data_is_secret: config.user_data_wo.is_known(),
            ssh: SshAccess {
                username: ssh.username.into_known().unwrap_or_else(|| self.default_user().to_owned()),
                public_key: ssh.public_key.into_known(),
                private_key_path: ssh.private_key_path.into_known().map(PathBuf::from),
                host: ssh.host.into_known(),
                port: ssh.port.into_known(),
            },
            wait_for: match self.wait_for.known_deref() {
                Some("none") => WaitFor::None,
                Some("cloud-init") => WaitFor::CloudInit,
                _ => WaitFor::Ssh,
            },
            tags: tags.clone(),
        }
    }

    /// Whether the machine is to run.
    pub fn power_state(&self) -> PowerState {
        match self.power_state.known_deref() {
            Some("stopped") => PowerState::Stopped,
            _ => PowerState::Running,
        }
    }

    /// The user's tags over the provider's.
    pub fn all_tags(&self, tagging: &Tagging) -> BTreeMap<String, String> {
        tagging.all(self.tags.clone().unwrap_or_default())
    }

    /// Those among them that are looked after.
    pub fn managed_tags(&self, tagging: &Tagging) -> BTreeMap<String, String> {
        tagging.managed(self.all_tags(tagging))
    }
}

fn power_state(value: &str) -> Result<(), String> {
    one_of(value, &["running", "stopped"])
}

fn wait_for(value: &str) -> Result<(), String> {
    one_of(value, &["ssh", "cloud-init", "none"])
}

fn public_key(value: &str) -> Result<(), String> {
    let line = value.trim_end_matches('\n');
    let mut parts = line.split(' ');
    let algorithm = parts.next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| algorithm.starts_with(prefix));
    if known && parts.next().is_some_and(|key| key.len() > 40) && !line.contains(['\n', '\r', '\0']) {
        return Ok(());
    }
    Err("must be one line of a public key, such as `ssh-ed25519 AAAA… name`; `file(\"…\")` reads one".into())
}

/// OpenSSH would take a `~`, and nobody else does.
fn path(value: &str) -> Result<(), String> {
    names::text(value)?;
    if value.starts_with('~') {
        return Err(format!("{value:?} is taken as it stands: write `pathexpand({value:?})`"));
    }
    Ok(())
}

fn host(value: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
    if !value.is_empty() && value.chars().all(allowed) && !value.starts_with('-') {
        return Ok(());
    }
    Err(format!("{value:?} is no host name and no address"))
}
