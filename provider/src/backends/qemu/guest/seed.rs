//! The disk from which cloud-init in a guest learns who it is (the NoCloud data source).
//!
//! A user's data pass through byte by byte. What Sindri itself has to say, the login's name and key, goes into
//! the metadata and the vendor's data, which cloud-init merges under the user's.

use std::io::{self, Write};
use std::path::Path;

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use serde_json::json;

use crate::process::Secret;
use crate::process::private;

/// What cloud-init is told.
#[derive(Debug, Clone)]
pub struct Seed {
    /// A new one makes cloud-init treat the boot as a machine's first.
    pub instance_id: String,
    /// The host name.
    pub hostname: String,
    /// Who logs in over SSH.
    pub username: String,
    /// With which public key (OpenSSH's one line).
    pub public_key: String,
    /// The user's own, in any of cloud-init's formats.
    pub user_data: Option<Secret>,
    /// Network configuration, in cloud-init's format; DHCP when there is none.
    pub network_config: Option<String>,
}

/// The volume's label by which cloud-init finds it.
const LABEL: [u8; 11] = *b"CIDATA     ";
/// The smallest volume, in bytes.
const SMALLEST: u64 = 1024 * 1024;
/// Bytes in a sector.
const SECTOR: u64 = 512;

impl Seed {
    /// Writes the disk (raw, 0600: user data may be secret) beside `path` and renames it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let files = self.files();
        let content: u64 = files.iter().map(|(_, content)| content.len() as u64).sum();
        // The file system's own tables take less than an eighth.
        let size = (SMALLEST + content + content / 8).next_multiple_of(SECTOR);
        private::replace(path, |file| {
            file.set_len(size)?;
            fatfs::format_volume(&mut *file, FormatVolumeOptions::new().volume_label(LABEL))?;
            let volume = FileSystem::new(file, FsOptions::new())?;
            for (name, content) in &files {
                volume.root_dir().create_file(name)?.write_all(content)?;
            }
            volume.unmount()
        })
    }

    /// YAML is a superset of JSON: written as JSON, no value can become structure.
    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let meta = json!({
            "instance-id": self.instance_id,
            "local-hostname": self.hostname,
            "public-keys": [self.public_key.trim()],
        });
        let mut files = vec![
            ("meta-data", meta.to_string().into_bytes()),
            ("user-data", self.user_data.as_ref().map_or(&b""[..], |it| it.expose().as_bytes()).to_vec()),
            ("vendor-data", format!("#cloud-config\n{}\n", self.vendor()).into_bytes()),
        ];
        if let Some(network) = &self.network_config {
            files.push(("network-config", network.clone().into_bytes()));
        }
        files
    }

    /// The distribution's default user, whose key the metadata holds, gets the name that was asked for. Root gets that key
    /// anyway, and is nobody's default user: as such its password would be locked, or unlocked by newer ones, and sudo have
    /// a rule for it.
    fn vendor(&self) -> serde_json::Value {
        if self.username == "root" {
            json!({ "users": [], "disable_root": false })
        } else {
            json!({ "user": { "name": self.username, "lock_passwd": true } })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn seed(user_data: Option<&str>) -> Seed {
        Seed {
            instance_id: "i-1".into(),
            hostname: "dev\": {\n".into(),
            username: "sindri".into(),
            public_key: "ssh-ed25519 AAAA me\n".into(),
            user_data: user_data.map(Secret::new),
            network_config: None,
        }
    }

    fn read(path: &Path, name: &str) -> String {
        let volume =
            FileSystem::new(fs::File::options().read(true).write(true).open(path).unwrap(), FsOptions::new())
                .unwrap();
        let mut text = String::new();
        volume.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn user_data_pass_through_whatever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        let large = "#!/bin/sh\n".to_owned() + &"# é\n".repeat(3_000_000);
        for user_data in ["", "#cloud-config\nusers: []\r\n\t$(x)", &large] {
            seed(Some(user_data)).write(&path).unwrap();
            assert!(read(&path, "user-data") == user_data, "{} bytes", user_data.len());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn our_part_is_structured_whatever_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.img");
        seed(None).write(&path).unwrap();
        let meta: serde_json::Value = serde_json::from_str(&read(&path, "meta-data")).unwrap();
        assert_eq!(
            meta,
            json!({"instance-id": "i-1", "local-hostname": "dev\": {\n", "public-keys": ["ssh-ed25519 AAAA me"]})
        );
        assert_eq!(
            read(&path, "vendor-data"),
            "#cloud-config\n{\"user\":{\"lock_passwd\":true,\"name\":\"sindri\"}}\n"
        );
        Seed { username: "root".into(), ..seed(None) }.write(&path).unwrap();
        assert_eq!(read(&path, "vendor-data"), "#cloud-config\n{\"disable_root\":false,\"users\":[]}\n");
        let volume = FileSystem::new(
            fs::File::options().read(true).write(true).open(&path).unwrap(),
            FsOptions::new(),
        )
        .unwrap();
        assert_eq!(volume.volume_label(), "CIDATA");
        assert!(volume.root_dir().open_file("network-config").is_err());
    }
}
