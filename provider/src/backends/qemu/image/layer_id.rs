//! Names that requests lead to, the same ones on whichever computer: a layer's, and its partitions' ids.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::distribution::Platform;
use super::layer::{CUSTOMIZE, ESSENTIAL};
use crate::backends::qemu::{Arch, Bootstrap};

/// Raised when the way a tree is made changes in a way that its scripts and packages do not show.
const RECIPE: u32 = 1;

/// The ids of the partitions for which a tree was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partitions {
    /// The root partition's.
    pub(super) root: uuid::Uuid,
    /// The EFI system partition's.
    pub(super) esp: uuid::Uuid,
}

impl Partitions {
    /// Those of a request.
    pub(super) fn of(request: &str) -> Self {
        Self {
            root: derived_uuid(request, "root partition"),
            esp: derived_uuid(request, "EFI system partition"),
        }
    }
}

/// What makes two requests the same one, on whichever computer.
#[derive(Serialize)]
struct Key<'a> {
    recipe: u32,
    scripts: [&'a str; 2],
    suite: &'a str,
    mirror: Option<&'a str>,
    security_mirror: Option<&'a str>,
    snapshot: Option<&'a str>,
    packages: Vec<String>,
    arch: &'a str,
    owner: u32,
}

/// A UUID that the same inputs always lead to (version 8: made by own rules).
pub(super) fn derived_uuid(seed: &str, what: &str) -> uuid::Uuid {
    let hash = digest(&SHA256, format!("{seed}\0{what}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What a request is known by, whatever leads to its mirrors.
pub(super) fn request(spec: &Bootstrap, arch: Arch) -> String {
    let mut packages = spec.packages.clone();
    packages.sort();
    let key = Key {
        recipe: RECIPE,
        scripts: [ESSENTIAL, CUSTOMIZE],
        suite: &spec.suite,
        mirror: spec.mirror.as_deref(),
        security_mirror: spec.security_mirror.as_deref(),
        snapshot: spec.snapshot.as_deref(),
        packages,
        arch: Platform::of(arch).deb_arch,
        owner: owner(),
    };
    hash(&key)
}

/// 64 hex digits that only the same has.
pub(super) fn hash(what: &impl Serialize) -> String {
    // What is made of strings and numbers always serialises.
    hex::encode(digest(&SHA256, &serde_json::to_vec(what).unwrap_or_default()))
}

/// The host's id of the namespace's root: another map could not read the tree.
fn owner() -> u32 {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return crate::process::enter::ROOT_MAP_START;
    }
    let name = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let raw = uid.as_raw().to_string();
    let name = name
        .lines()
        .find(|line| line.split(':').nth(2) == Some(&raw))
        .and_then(|line| line.split(':').next());
    let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
    let mut starts =
        ranges.lines().filter_map(|line| line.split_once(':')).filter(|(user, _)| Some(*user) == name);
    starts.next().and_then(|(_, range)| range.split(':').next()?.parse().ok()).unwrap_or_default()
}
