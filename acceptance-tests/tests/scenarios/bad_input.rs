//! What a user can get wrong: said before anything is done, on the line that is wrong, with what to do.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use acceptance_tests::{Diagnostic, Host, built_tool, each_cli, either_cli, only_root};
use anyhow::{Context, Result, ensure};
use serde_json::json;

/// A mistake in `examples/qemu-image`, and what has to be said about it.
struct Mistake {
    /// In place of `name_prefix = "base"`.
    name: Option<&'static str>,
    /// In place of `base = { bootstrap = { suite = var.suite } }`, within `qemu`.
    qemu: Option<&'static str>,
    /// Added to the resource.
    more: &'static str,
    /// The attribute that the diagnostic is about.
    at: &'static str,
    /// The diagnostic says this.
    says: &'static str,
}

const NONE: Mistake = Mistake { name: None, qemu: None, more: "", at: "", says: "" };

const MISTAKES: [Mistake; 24] = [
    Mistake { name: Some(r#""""#), at: "name_prefix", says: "empty", ..NONE },
    Mistake { name: Some(r#""a/b""#), at: "name_prefix", says: "'/'", ..NONE },
    Mistake { name: Some(r#""a\nb""#), at: "name_prefix", says: "contains", ..NONE },
    Mistake { name: Some(r#""a\"b""#), at: "name_prefix", says: "contains", ..NONE },
    Mistake { name: Some(r#""$(touch /tmp/x)""#), at: "name_prefix", says: "contains", ..NONE },
    Mistake { name: Some(r#"format("%010000d", 0)"#), at: "name_prefix", says: "10000", ..NONE },
    Mistake { qemu: Some("disk_size_gb = 10"), at: "qemu.base", says: "bootstrap", ..NONE },
    Mistake { qemu: Some("base = {}"), at: "qemu.base", says: "bootstrap", ..NONE },
    Mistake {
        qemu: Some(r#"base = { bootstrap = { suite = "Book Worm" } }"#),
        at: "qemu.base.bootstrap.suite",
        says: "Book Worm",
        ..NONE
    },
    Mistake {
        qemu: Some(r#"base = { bootstrap = { suite = "x", mirror = "ftp://x" } }"#),
        at: "qemu.base.bootstrap.mirror",
        says: "http",
        ..NONE
    },
    Mistake {
        qemu: Some(r#"base = { bootstrap = { suite = "x", packages = ["-oX"] } }"#),
        at: "qemu.base.bootstrap.packages",
        says: "-oX",
        ..NONE
    },
    Mistake {
        qemu: Some(r#"base = { image = "http://127.0.0.1:1/x" }"#),
        at: "qemu.base.sha256",
        says: "checksum",
        ..NONE
    },
    Mistake {
        qemu: Some(r#"base = { image = "/no/such/disk.qcow2" }"#),
        at: "qemu.base",
        says: "/no/such/disk.qcow2",
        ..NONE
    },
    Mistake {
        qemu: Some("base = { bootstrap = { suite = \"x\" } }\n    disk_size_gb = -1"),
        at: "qemu.disk_size_gb",
        says: "must be a whole number from 0",
        ..NONE
    },
    Mistake {
        qemu: Some("base = { bootstrap = { suite = \"x\" } }\n    memory_mb = 1"),
        at: "qemu.memory_mb",
        says: "256",
        ..NONE
    },
    Mistake {
        qemu: Some("base = { bootstrap = { suite = \"x\" } }\n    format = \"vdi\""),
        at: "qemu.format",
        says: "qcow2",
        ..NONE
    },
    Mistake {
        qemu: Some("base = { bootstrap = { suite = \"x\" } }\n    network = \"lan\""),
        at: "qemu.network",
        says: "mirror",
        ..NONE
    },
    Mistake {
        qemu: Some(
            "base = { bootstrap = { suite = var.suite } }\n    engine = \"packer\"\n    network = \"mirror\"",
        ),
        at: "qemu.network",
        says: "native",
        ..NONE
    },
    Mistake {
        more: r#"provision = [{ script = "/no/such/script.sh" }]"#,
        at: "provision[0].script",
        says: "/no/such/script.sh",
        ..NONE
    },
    Mistake {
        more: r#"provision = [{ inline = ["x"], content = "y" }]"#,
        at: "provision[0]",
        says: "inline",
        ..NONE
    },
    Mistake { more: "provision = [{}]", at: "provision[0]", says: "upload", ..NONE },
    Mistake { more: "provision = [{ reboot = true }]", at: "provision[0].reboot", says: "boot", ..NONE },
    Mistake { more: r#"max_age = "a month""#, at: "max_age", says: "a month", ..NONE },
    Mistake { more: r#"existing_image_id = "x""#, at: "name_prefix", says: "existing_image_id", ..NONE },
];

impl Mistake {
    /// Whether a diagnostic is the expected one.
    fn is_said_by(&self, error: &Diagnostic) -> bool {
        let nested = self.at.contains(['.', '[']);
        let located = if nested { error.is_about(self.at) } else { error.code.contains(self.at) };
        located && error.mentions(self.says) && error.address == "sindri_image.base"
    }
}

#[test]
fn every_mistake_is_said_at_plan_on_its_line() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-image")?;
        let original = std::fs::read_to_string(workspace.path().join("main.tf"))?;
        let mut wrong = Vec::new();
        for mistake in &MISTAKES {
            workspace.write("main.tf", &original)?;
            if let Some(name) = mistake.name {
                workspace.edit("main.tf", "name_prefix = \"base\"", &format!("name_prefix = {name}"))?;
            }
            if let Some(qemu) = mistake.qemu {
                workspace.edit("main.tf", "base = { bootstrap = { suite = var.suite } }", qemu)?;
            }
            workspace.edit("main.tf", "  lifecycle {", &format!("  {}\n  lifecycle {{", mistake.more))?;
            let outcome = workspace.run(&["plan", "-json"])?;
            if outcome.success || !outcome.errors().iter().any(|error| mistake.is_said_by(error)) {
                let told: Vec<String> = outcome.errors().iter().map(ToString::to_string).collect();
                wrong.push(format!("expected {:?} at {:?}: {}", mistake.says, mistake.at, told.join("\n")));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn all_mistakes_are_told_at_once() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-image")?;
        workspace.edit(
            "main.tf",
            "name_prefix = \"base\"",
            "name_prefix = \"a/b\"\n  max_age = \"never\"",
        )?;
        workspace.edit(
            "main.tf",
            "base = { bootstrap = { suite = var.suite } }",
            "base = {}\n    cpus = 0",
        )?;
        let errors = workspace.plan_fails()?;
        for says in ["'/'", "never", "bootstrap", "at least 1"] {
            assert!(errors.iter().any(|error| error.mentions(says)), "{says:?} is not said: {errors:?}");
        }
        Ok(())
    })
}

#[test]
fn neither_no_cloud_nor_two_are_taken() -> Result<()> {
    const QEMU: &str = "qemu = { base = { bootstrap = { suite = \"bookworm\" } } }";
    const AWS: &str = "aws = { region = \"eu-central-1\" }";
    const IMAGE: &str = "resource \"sindri_image\" \"x\" {\n  name_prefix = \"x\"";
    const VM: &str = "resource \"sindri_vm\" \"x\" {\n  name     = \"x\"\n  image_id = \"y\"";
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        let header = "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\n";
        for (resource, clouds, address, summary) in [
            (IMAGE, [""; 2], "sindri_image.x", "No backend"),
            (VM, [""; 2], "sindri_vm.x", "No backend"),
            (IMAGE, [QEMU, AWS], "sindri_image.x", "Two backends"),
            (VM, ["qemu = {}", AWS], "sindri_vm.x", "Two backends"),
        ] {
            workspace.write("main.tf", &format!("{header}{resource}\n  {}\n}}\n", clouds.join("\n  ")))?;
            let errors = workspace.plan_fails()?;
            let told = |error: &Diagnostic| {
                error.address == address && error.summary == summary && error.mentions("Set exactly one: `")
            };
            ensure!(errors.iter().any(told), "expected {summary:?} at {address}: {errors:?}");
        }
        Ok(())
    })
}

#[test]
fn what_shows_only_in_a_build_is_told_and_leaves_nothing() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-image")?;
        let original = std::fs::read_to_string(workspace.path().join("main.tf"))?;
        for (qemu, says, at) in [
            ("base = { bootstrap = { suite = \"nosuchsuite\" } }", "nosuchsuite", "suite"),
            (
                "base = { bootstrap = { suite = var.suite, mirror = \"http://127.0.0.1:9/debian\" } }",
                "127.0.0.1:9",
                "mirror",
            ),
            (
                "base = { bootstrap = { suite = var.suite, packages = [\"no-such-package\"] } }",
                "no-such-package",
                "packages",
            ),
        ] {
            workspace.write("main.tf", &original)?;
            workspace.edit("main.tf", "base = { bootstrap = { suite = var.suite } }", qemu)?;
            let errors = workspace.apply_with(&[])?.fails()?;
            let told = |error: &Diagnostic| {
                let at = format!("qemu.base.bootstrap.{at}");
                error.address == "sindri_image.base" && error.is_about(&at) && error.mentions(says)
            };
            ensure!(errors.iter().any(told), "expected {says:?} at {at}: {errors:?}");
            workspace.destroy()?;
            host.inventory()?.ensure_empty().with_context(|| qemu.to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn a_missing_program_is_named_with_what_to_install() -> Result<()> {
    each_cli(|cli| {
        for (program, package) in [("mmdebstrap", "mmdebstrap"), ("qemu-img", "qemu-utils")] {
            let host = Host::new()?;
            let mut workspace = host.workspace(cli, "image")?;
            workspace.env("PATH", host.path_without(program)?);
            if program == "mmdebstrap" {
                // A layer that is cached needs none: look past the shared cache.
                workspace.env("XDG_CACHE_HOME", host.path().join("cache"));
            }
            workspace.variables(&json!({ "verify": [{ "name": "boots", "command": "true" }] }))?;
            let errors = workspace.apply_with(&[])?.fails()?;
            for says in [program, package] {
                ensure!(errors.iter().any(|error| error.mentions(says)), "expected {says:?}: {errors:?}");
            }
            workspace.destroy()?;
            host.inventory()?.ensure_empty()?;
        }
        Ok(())
    })
}

/// Where nothing was built yet: an image is not made for minutes for a guest that cannot be.
#[test]
fn a_missing_emulator_is_named_by_the_plan() -> Result<()> {
    let (program, package) = match std::env::consts::ARCH {
        "aarch64" => ("qemu-system-aarch64", "qemu-system-arm"),
        _ => ("qemu-system-x86_64", "qemu-system-x86"),
    };
    each_cli(|cli| {
        let host = Host::new()?;
        let path = host.path_without(program)?;
        let verify = json!({ "verify": [{ "name": "boots", "command": "true" }] });
        for (scenario, variables, address, at) in [
            ("image", verify, "sindri_image.it", "verify"),
            ("qemu-booted", json!({}), "sindri_image.booted", "boot"),
            ("vm", json!({}), "sindri_vm.it", "qemu"),
        ] {
            let mut workspace = host.workspace(cli, scenario)?;
            workspace.env("PATH", &path);
            workspace.variables(&variables)?;
            let errors = workspace.plan_fails()?;
            let told = |error: &Diagnostic| {
                let is_there = error.is_about(&format!("qemu.{at}")) || error.code.contains(at);
                let words = format!("{program} is not installed or not in PATH; install {package}");
                error.address == address && is_there && error.mentions(&words)
            };
            ensure!(errors.iter().any(told), "expected {program:?} at {at}: {errors:?}");
        }
        let mut workspace = host.workspace(cli, "image")?;
        workspace.env("PATH", &path);
        workspace.plan().context("an image that is never booted needs no guest")?;
        host.inventory()?.ensure_empty()
    })
}

/// A disk too small for an image, mounted for a test's length.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    pub(crate) fn mount(folder: &'a Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "none"]).arg(folder).status()?;
        ensure!(mounted.success(), "a small disk cannot be mounted");
        Ok(Self(folder))
    }

    /// Leaves no space on it. Returns the file that takes it up.
    pub(crate) fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("fill");
        let mut file = std::fs::File::create(&path)?;
        let error = std::io::copy(&mut std::io::repeat(0), &mut file).err();
        ensure!(error.is_some_and(|error| error.kind() == ErrorKind::StorageFull), "it cannot be filled");
        Ok(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() -> Result<()> {
    if !only_root("mount a small disk")? {
        return Ok(());
    }
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "image")?;
        let data_dir = host.data_dir();
        let small = SmallDisk::mount(data_dir.parent().context("a data folder below another")?)?;
        let errors = workspace.apply_with(&[])?.fails()?;
        for says in ["no space left", "Free some space", "data_dir"] {
            ensure!(errors.iter().any(|error| error.mentions(says)), "expected {says:?}: {errors:?}");
        }
        host.inventory()?.ensure_empty()?;
        drop(small);
        workspace.apply()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// Where Packer and the shells that it starts have their temporary files.
#[test]
fn a_full_tmpdir_is_told_and_leaves_nothing() -> Result<()> {
    if !only_root("mount a small disk")? {
        return Ok(());
    }
    each_cli(|cli| {
        for packer in [PathBuf::from("/usr/bin/packer"), built_tool("packer")?] {
            let host = Host::new()?;
            let mut workspace = host.workspace(cli, "packer-template")?;
            workspace.variables(&json!({ "packer": packer, "token": "x" }))?;
            let (script, inline) =
                ("script           = \"${path.root}/scripts/greet.sh\"", "inline = [\"true\"]");
            workspace.edit("template/greeting.pkr.hcl", script, inline)?;
            let tmp = host.path().join("tmp");
            let small = SmallDisk::mount(&tmp)?;
            let fill = small.fill()?;
            workspace.env("TMPDIR", &tmp);
            let errors = workspace.apply_with(&[])?.fails()?;
            let place = tmp.display().to_string();
            for says in ["The disk with", &place, "is full", "TMPDIR", "no space left"] {
                ensure!(errors.iter().any(|error| error.mentions(says)), "expected {says:?}: {errors:?}");
            }
            // What Packer's file builder wrote before the step is Packer's to leave.
            host.inventory()?.ensure_empty()?;
            let left: Vec<_> = std::fs::read_dir(&tmp)?.flatten().map(|entry| entry.path()).collect();
            ensure!(left == [fill.as_path()], "left behind: {left:?}");
            std::fs::remove_file(fill)?;
            workspace.apply()?;
            workspace.destroy()?;
            host.inventory()?.ensure_empty()?;
        }
        Ok(())
    })
}
