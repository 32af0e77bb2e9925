//! `CLOUD = { … }` of a machine.

use std::any::Any;
use std::collections::BTreeMap;

use tfplugin::{Attr, Diagnostic, Diagnostics, Draft, Path};

use crate::backends::{Backends, Problems};
use crate::domain::{Vm, VmLauncher};

/// `CLOUD = { … }` of a machine.
pub trait VmSection: Any + Send + Sync {
    /// The cloud, as the attribute is called and as `cloud` has it in state.
    fn cloud(&self) -> &'static str;

    /// What to set it means, for whoever sets none or two.
    fn offer(&self) -> &'static str;

    /// The region that it names; null where it may name one and does not.
    fn region(&self) -> Attr<&str>;

    /// Who logs in when the user does not say.
    fn first_user(&self) -> &'static str;

    /// Checks what can be said before values are known, also of what stands beside it.
    fn validate(&self, around: &VmAround<'_>, path: &Path, diags: &mut Diagnostics);

    /// Checks all tags that a machine gets: its own, and the provider's `default_tags`.
    fn check_all_tags(&self, all: &BTreeMap<String, String>, diags: &mut Diagnostics) {
        let _ = (all, diags);
    }

    /// What keeps this computer from launching one.
    fn launch_problems(&self) -> Problems {
        Vec::new()
    }

    /// What a change in it means for a machine that is there: what makes it anew, restarts it, or computes anew.
    fn plan_change(&self, change: &VmChange<'_>, path: &Path, plan: &mut Draft, diags: &mut Diagnostics);

    /// Takes over where the machine, whose SSH listens on `ssh_port`, differs from what is configured.
    fn observe(&mut self, vm: &Vm, ssh_port: u16) {
        let _ = (vm, ssh_port);
    }

    /// Who launches and changes it. All values are known; `region` is where the machine is, if it is there.
    fn launcher(&self, backends: &Backends, region: Option<&str>) -> Box<dyn VmLauncher>;

    /// What a machine that is imported tells of what was asked for.
    fn imported(vm: &Vm) -> Self
    where
        Self: Sized;
}

/// What stands beside a machine's section, as far as clouds have rules for it.
#[derive(Debug)]
pub struct VmAround<'a> {
    /// `power_state`.
    pub power_state: &'a Attr<String>,
    /// User data by the names of their attributes.
    pub user_data: [(&'static str, &'a Attr<String>); 2],
    /// `tags`.
    pub tags: &'a Attr<BTreeMap<String, String>>,
    /// What of `ssh` says where SSH is reached, and is known.
    pub ssh_ways: Vec<&'static str>,
    /// Whether a launch waits for SSH at the machine's own address.
    pub is_reached: bool,
}

/// A change of a machine that is there, and stays with its cloud.
pub struct VmChange<'a> {
    /// The section as it is in state.
    pub prior: Attr<&'a dyn VmSection>,
    /// Where the machine is.
    pub region: &'a Attr<String>,
    /// Whether state lacks what was not said before, since the machine was imported.
    pub imported: bool,
    /// Whether it runs, and is to go on.
    pub runs: bool,
}

impl VmChange<'_> {
    /// The section as it was, of the cloud that asks.
    pub fn before<T: VmSection>(&self) -> Option<&T> {
        let prior: &dyn Any = *self.prior.known()?;
        prior.downcast_ref()
    }

    /// Tells that a machine which runs is restarted.
    pub fn warn_of_restart(&self, changed: &[&str], at: Path, diags: &mut Diagnostics) {
        if self.runs && !changed.is_empty() {
            let changed = changed.join(", ");
            let text =
                format!("A change of {changed} takes effect when the machine starts: apply restarts it.");
            diags.push(Diagnostic::warning("Machine will be restarted", text).at(at));
        }
    }
}

/// A machine's section, set or not.
pub trait VmSlot {
    /// [`VmSection::cloud`].
    fn cloud(&self) -> &'static str;
    /// [`VmSection::offer`].
    fn offer(&self) -> &'static str;
    /// The section.
    fn section(&self) -> Attr<&dyn VmSection>;
    /// The section, to be changed, if it is known.
    fn section_mut(&mut self) -> Option<&mut dyn VmSection>;
    /// Fills it in for a machine that is imported.
    fn import(&mut self, vm: &Vm);
}

impl<T: VmSection + Default> VmSlot for Attr<T> {
    fn cloud(&self) -> &'static str {
        T::default().cloud()
    }

    fn offer(&self) -> &'static str {
        T::default().offer()
    }

    fn section(&self) -> Attr<&dyn VmSection> {
        self.as_ref().map(|section| section as _)
    }

    fn section_mut(&mut self) -> Option<&mut dyn VmSection> {
        match self {
            Self::Known(section) => Some(section),
            Self::Null | Self::Unknown => None,
        }
    }

    fn import(&mut self, vm: &Vm) {
        *self = Self::Known(T::imported(vm));
    }
}
