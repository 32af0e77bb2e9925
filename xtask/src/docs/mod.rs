//! `docs/`, in the registries' layout, from the schema that OpenTofu gets of the provider and from
//! `examples/`. Guides and decisions are written by hand and left alone.

mod page;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::repository;

/// Folders in `docs/` that are ours to generate, all that is in them; others are written by hand.
const GENERATED: [&str; 3] = ["resources", "data-sources", "functions"];

/// Writes every page, and removes pages of what is no more.
///
/// # Errors
/// When the provider does not build or a file cannot be written.
pub(crate) fn write() -> Result<()> {
    let pages = pages()?;
    for stale in stale(&pages)? {
        let path = docs().join(&stale);
        match pages.get(&stale) {
            Some(text) => {
                fs::create_dir_all(path.parent().context("a page without a folder")?)?;
                fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
                println!("wrote docs/{}", stale.display());
            }
            None => {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
                println!("removed docs/{}", stale.display());
            }
        }
    }
    Ok(())
}

/// Compares every page with what would be written.
///
/// # Errors
/// When one differs: names it.
pub(crate) fn check() -> Result<()> {
    let stale = stale(&pages()?)?;
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|page| format!("docs/{}", page.display())).collect();
    bail!("not up to date; run `make docs`: {}", names.join(", "))
}

fn docs() -> PathBuf {
    repository::root().join("docs")
}

/// Every page by its path below `docs/`.
fn pages() -> Result<BTreeMap<PathBuf, String>> {
    let schema = schema::of_provider()?;
    page::all(&schema, &|example| fs::read_to_string(repository::root().join("examples").join(example)).ok())
}

/// The pages whose file is missing, different, or there for nothing.
fn stale(pages: &BTreeMap<PathBuf, String>) -> Result<BTreeSet<PathBuf>> {
    let differs = |(page, text): (&PathBuf, &String)| {
        (fs::read_to_string(docs().join(page)).ok().as_ref() != Some(text)).then(|| page.clone())
    };
    let mut stale: BTreeSet<PathBuf> = pages.iter().filter_map(differs).collect();
    for folder in GENERATED {
        let Ok(entries) = fs::read_dir(docs().join(folder)) else { continue };
        for entry in entries {
            let page = Path::new(folder).join(entry?.file_name());
            if !pages.contains_key(&page) {
                stale.insert(page);
            }
        }
    }
    Ok(stale)
}
