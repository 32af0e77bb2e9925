//! How a guest's processors are run: by hardware where it really works, else by translation.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use crate::backends::qemu::Arch;

/// What runs the guest's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Linux's hypervisor.
    Kvm,
    /// macOS's hypervisor.
    Hvf,
    /// Translation in software: works everywhere, several times slower.
    Tcg,
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// The fastest that works.
    #[default]
    Auto,
    /// This one, or an error from QEMU.
    Only(Accelerator),
}

impl Accelerator {
    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Tcg => "tcg",
        }
    }
}

impl AcceleratorChoice {
    /// Reads the value of the attribute `accelerator`; none when it is not a possible one.
    pub fn parse(text: &str) -> Option<Self> {
        let known = [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Tcg];
        match text {
            "auto" => Some(Self::Auto),
            _ => known.into_iter().find(|accelerator| accelerator.name() == text).map(Self::Only),
        }
    }
}

/// The accelerator to use for guests of this architecture.
pub fn accelerator(choice: AcceleratorChoice, guest: Arch) -> Accelerator {
    match choice {
        AcceleratorChoice::Only(accelerator) => accelerator,
        AcceleratorChoice::Auto => pick(guest, Arch::host(), cfg!(target_os = "macos"), || kvm().is_ok()),
    }
}

fn pick(guest: Arch, host: Option<Arch>, macos: bool, kvm: impl Fn() -> bool) -> Accelerator {
    if host != Some(guest) {
        Accelerator::Tcg
    } else if macos {
        Accelerator::Hvf
    } else if kvm() {
        Accelerator::Kvm
    } else {
        Accelerator::Tcg
    }
}

/// Whether KVM works: the device may be there and yet refuse to make a machine, as in a nested guest, or
/// be a substitute without hardware (PVM), which cannot run firmware.
///
/// # Errors
/// Why it does not.
pub(super) fn kvm() -> io::Result<()> {
    if cfg!(target_arch = "x86_64") && !has_hardware(&std::fs::read_to_string("/proc/cpuinfo")?) {
        return Err(io::Error::other("the processor offers neither VT-x nor AMD-V here"));
    }
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
    create_vm(&device)
}

/// Whether the first processor in `/proc/cpuinfo` can run guests by itself.
fn has_hardware(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Makes a machine without processors or memory, which is gone at once.
#[allow(unsafe_code)]
fn create_vm(device: &File) -> io::Result<()> {
    /// `KVM_CREATE_VM` of linux/kvm.h, `_IO(0xAE, 0x01)`.
    const KVM_CREATE_VM: libc::Ioctl = 0xAE01;
    // SAFETY: the request takes an integer (the machine type, 0 for the default) and no pointer; the
    // descriptor is open, and the new one that is returned belongs to nobody else and is closed once.
    let machine = unsafe { libc::ioctl(device.as_raw_fd(), KVM_CREATE_VM, 0) };
    if machine < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    unsafe { libc::close(machine) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_only_for_the_hosts_own_architecture_and_only_when_it_works() {
        use Accelerator::{Hvf, Kvm, Tcg};
        use Arch::{Arm64, X86_64};
        for (guest, host, macos, kvm, expected) in [
            (X86_64, Some(X86_64), false, true, Kvm),
            (X86_64, Some(X86_64), false, false, Tcg),
            (Arm64, Some(X86_64), false, true, Tcg),
            (Arm64, Some(Arm64), true, false, Hvf),
            (X86_64, Some(Arm64), true, false, Tcg),
            (X86_64, None, false, true, Tcg),
        ] {
            assert_eq!(pick(guest, host, macos, || kvm), expected, "{guest:?} on {host:?}, kvm {kvm}");
        }
    }

    #[test]
    fn a_device_without_hardware_is_not_enough() {
        for (cpuinfo, found) in [
            ("processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n", true),
            ("flags\t\t: fpu svm\nbugs: x", true),
            ("flags\t\t: fpu vme svm_lock hypervisor\nvmx flags\t: ept", false),
            ("", false),
        ] {
            assert_eq!(has_hardware(cpuinfo), found, "{cpuinfo}");
        }
    }

    #[test]
    fn a_choice_is_not_second_guessed() {
        let only = AcceleratorChoice::Only(Accelerator::Tcg);
        assert_eq!(accelerator(only, Arch::X86_64), Accelerator::Tcg);
    }
}
