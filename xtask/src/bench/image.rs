//! An image from the same base and script: ours, in the tree and booted, against Packer's qemu builder.
//! Nobody compresses, all have the same accelerator, processors and memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::contestant::Contestants;
use super::measure::{Row, seconds};

/// What both do to the base.
const SCRIPT: &str = "echo provisioned > /etc/provisioned";

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let suite = acceptance_tests::suite()?;
    let bootstrap = format!("base = {{ bootstrap = {{ suite = \"{suite}\" }} }}");
    // The base itself, and the cached layer that the build in the tree starts from.
    let builder = contestants.workspace(&contestants.ours, &image(&bootstrap, "true"))?;
    builder.run(&["apply", "-auto-approve"])?;
    let base = contestants.scratch().join("base.qcow2");
    fs::copy(builder.run(&["output", "-raw", "path"])?.trim(), &base)?;
    builder.run(&["destroy", "-auto-approve"])?;

    let other = packer(contestants, &base)?;
    let from_disk = format!("base = {{ image = {base:?} }}\n    boot = true");
    let mut rows = Vec::new();
    for (name, qemu, aim) in [
        ("image without booting, against Packer", bootstrap, "≤ 0.50×"),
        ("image with booting, against Packer", from_disk, "≤ 0.90×"),
    ] {
        let workspace = contestants.workspace(&contestants.ours, &image(&qemu, SCRIPT))?;
        let ours = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop))?;
        workspace.run(&["destroy", "-auto-approve"])?;
        rows.push(Row { name: name.into(), ours, other, unit: "s", aim });
    }
    Ok(rows)
}

fn image(qemu: &str, script: &str) -> String {
    format!(
        r#"
resource "sindri_image" "bench" {{
  name_prefix = "bench"
  cache       = false
  qemu = {{
    {qemu}
    disk_size_gb = 4
    cpus         = 2
    memory_mb    = 2048
    compress     = false
  }}
  provision = [{{ inline = ["{script}"] }}]
}}

output "path" {{ value = sindri_image.bench.path }}
"#
    )
}

/// Seconds that Packer takes.
fn packer(contestants: &Contestants, base: &Path) -> Result<f64> {
    let packer = acceptance_tests::built_tool("packer")?;
    let folder = tempfile::Builder::new().prefix("packer-").tempdir_in(contestants.scratch())?;
    let key = folder.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen failed");
    let seed = folder.path().join("seed");
    fs::create_dir(&seed)?;
    fs::write(seed.join("meta-data"), "instance-id: bench\n")?;
    let public = fs::read_to_string(key.with_extension("pub"))?;
    let user = json!({
        "users": [{ "name": "packer", "sudo": "ALL=(ALL) NOPASSWD:ALL", "shell": "/bin/sh",
                    "ssh_authorized_keys": [public.trim()] }],
    });
    fs::write(seed.join("user-data"), format!("#cloud-config\n{user}\n"))?;
    fs::write(folder.path().join("bench.pkr.hcl"), template(base, &key, &seed)?)?;
    let log = fs::File::create(folder.path().join("log"))?;
    let taken = seconds(|| {
        let status = Command::new(&packer)
            .args(["build", "-color=false", "bench.pkr.hcl"])
            .current_dir(folder.path())
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_CONFIG_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()
            .context("starting packer")?;
        let said = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        ensure!(status.success(), "packer build failed:\n{said}");
        Ok(())
    })?;
    Ok(taken)
}

fn template(base: &Path, key: &Path, seed: &Path) -> Result<String> {
    let (code, variables) = firmware()?;
    // As `accelerator = "auto"` decides: some hosts have the device without the hardware behind it.
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags.split_whitespace().any(|flag| ["vmx", "svm"].contains(&flag));
    let kvm = hardware && fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let accelerator = if kvm { "kvm" } else { "tcg" };
    Ok(format!(
        r#"
source "qemu" "bench" {{
  disk_image           = true
  iso_url              = {base:?}
  iso_checksum         = "none"
  disk_size            = "4096M"
  format               = "qcow2"
  skip_compaction      = true
  output_directory     = "output"
  headless             = true
  accelerator          = "{accelerator}"
  machine_type         = "q35"
  cpus                 = 2
  memory               = 2048
  efi_boot             = true
  efi_firmware_code    = {code:?}
  efi_firmware_vars    = {variables:?}
  net_device           = "virtio-net"
  disk_interface       = "virtio"
  boot_wait            = "1s"
  http_directory       = {seed:?}
  ssh_username         = "packer"
  ssh_private_key_file = {key:?}
  ssh_timeout          = "10m"
  shutdown_command     = "sudo systemctl poweroff"
  qemuargs = [
    ["-cpu", "max"],
    ["-smbios", "type=1,serial=ds=nocloud-net;s=http://10.0.2.2:{{{{ .HTTPPort }}}}/"],
  ]
}}

build {{
  sources = ["source.qemu.bench"]
  provisioner "shell" {{
    execute_command = "sudo sh {{{{ .Path }}}}"
    inline          = ["{SCRIPT}"]
  }}
}}
"#
    ))
}

/// UEFI code and variables as the distributions install them.
fn firmware() -> Result<(PathBuf, PathBuf)> {
    let pairs = [
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    ];
    let found =
        pairs.iter().find(|(code, variables)| Path::new(code).exists() && Path::new(variables).exists());
    let (code, variables) = found.context("no UEFI firmware for Packer's guest")?;
    Ok((code.into(), variables.into()))
}
