//! Removes the trees that the cache keeps and no build uses: layers, which the next build makes anew, and what killed builds
//! left.

use std::fs;

use uuid::Uuid;

use super::area::Area;
use super::layer::{self, About};
use super::{BuildError, Host, tree};
use crate::process::Limits;
use crate::process::enter::{AREA, Entry};
use crate::process::lock::How;

/// A tree that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedTree {
    /// What it is, for a person.
    pub what: String,
    /// Bytes of the disk that are free then.
    pub freed: u64,
}

/// What became of the cache's trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedTrees {
    /// Those that went, or would go.
    pub removed: Vec<PrunedTree>,
    /// How many stay, since builds use them.
    pub used: usize,
}

/// Removes them; with `dry`, tells what would be removed.
///
/// # Errors
/// When one of them cannot be looked at or removed.
pub(in crate::backends::qemu) async fn prune(host: &Host, dry: bool) -> Result<PrunedTrees, BuildError> {
    let mut pruned = PrunedTrees::default();
    if !host.cache_dir.join("trees").exists() {
        return Ok(pruned);
    }
    let area = Area::open(&host.cache_dir)?;
    for name in names(&area, "layers") {
        let id = name.trim_end_matches(layer::PARTIAL);
        let Some(_lock) = area.try_lock(&format!("layers/{id}.lock"), How::Exclusive)? else {
            pruned.used += 1;
            continue;
        };
        let freed = size(host, &area, &format!("layers/{name}")).await?;
        let what = about_layer(&name, layer::read(&area, &format!("layers/{name}")));
        if !dry {
            layer::remove(host, &area, &name).await?;
        }
        pruned.removed.push(PrunedTree { what, freed });
    }
    for id in names(&area, "work").iter().filter_map(|name| name.parse::<Uuid>().ok()) {
        let Some(_lock) = area.try_lock(&format!("work/{id}.lock"), How::Exclusive)? else {
            pruned.used += 1;
            continue;
        };
        let freed = size(host, &area, &format!("work/{id}")).await?;
        if !dry {
            tree::remove_left(host, &area, id).await?;
        }
        pruned.removed.push(PrunedTree { what: format!("the tree of build {id}, which ended"), freed });
    }
    Ok(pruned)
}

/// What is in a folder of the area, but for locks.
fn names(area: &Area, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(area.host(folder)).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

fn about_layer(name: &str, about: Option<About>) -> String {
    let id = name.get(..12).unwrap_or(name);
    let Some(about) = about else { return format!("what there is of layer {id}") };
    let made = i64::try_from(about.made).ok().and_then(|made| chrono::DateTime::from_timestamp(made, 0));
    let made = made.map(|made| format!(", made on {}", made.format("%Y-%m-%d"))).unwrap_or_default();
    format!("layer {id} ({}{made})", about.resolved_base)
}

/// Bytes on the disk. Its folders are closed to the host's user: the namespace's root looks.
async fn size(host: &Host, area: &Area, folder: &str) -> Result<u64, BuildError> {
    let entry =
        Entry::new("du").args(["-s", "--block-size=1", "--", &format!("{AREA}/{folder}")].map(str::to_owned));
    let command = area.command(host, &entry);
    let limits = Limits { cancel: tokio_util::sync::CancellationToken::new(), timeout: None };
    let finished = host.runner.run(&command, None, &limits).await;
    let finished = finished.map_err(BuildError::tool("measure a tree"))?;
    if finished.code != 0
        && let Some(error) = super::said::refused(&finished.output)
    {
        return Err(error);
    }
    let bytes = finished.output.lines().find_map(|line| line.split_whitespace().next()?.parse().ok());
    bytes.ok_or_else(|| BuildError::Invalid(format!("a tree cannot be measured: {}", finished.output.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_told_by_what_is_in_it() {
        let id = "0123456789abcdef".repeat(4);
        let about = About { resolved_base: "Debian bookworm 12.5".into(), epoch: 0, made: 1_769_817_600 };
        assert_eq!(
            about_layer(&id, Some(about)),
            "layer 0123456789ab (Debian bookworm 12.5, made on 2026-01-31)"
        );
        assert_eq!(about_layer(&format!("{id}.partial"), None), "what there is of layer 0123456789ab");
        assert_eq!(about_layer("odd", None), "what there is of layer odd");
    }
}
