//! What the key of a template's image is made of: the template, its values, and the files on this computer that they
//! name.
//!
//! A text counts as the name of a file or folder when there is one: from where Packer runs, or from the template's folder.
//! `${path.root}`, `${path.cwd}`, `${var.…}`, `${local.…}`, `{{template_dir}}`, `{{pwd}}` and ``{{user `…`}}`` in it are
//! replaced. What the template writes does not count, nor a folder that it writes into, which may not be there before the
//! first build; nor what is elsewhere on this computer: a path in an image looks the same as one here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde_json::{Value, json};

use super::read::{ARTIFICE_FILES, GLOB, Leaf, Resolved, Scope, Template};
use super::{Mistake, TemplateSpec};
use crate::domain::cache_key::file_digest;

/// Attributes of builders and post-processors that name what is written on this computer.
const OUTPUTS: [&str; 8] = [
    ARTIFICE_FILES,
    "export_path",
    "output",
    "output_dir",
    "output_directory",
    "output_filename",
    "output_path",
    "target",
];
/// Attributes that name something in the image.
const ELSEWHERE: [&str; 4] = ["destination", "remote_folder", "remote_path", "vm_name"];
/// Attributes that Packer itself checks against a digest beside them.
const CHECKED: [&str; 2] = ["iso_url", "iso_urls"];
/// The longest text that may be a path (`PATH_MAX`).
const LONGEST: usize = 4096;
/// How much is read for a key, and how many files: a plan takes seconds.
const MOST_BYTES: u64 = 1 << 30;
const MOST_FILES: usize = 20_000;

/// A template that was read, and the key's part that it makes.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) template: Template,
    pub(super) key: Value,
}

/// Reads the template and what it names.
///
/// # Errors
/// What is wrong, each on its attribute.
pub(super) fn read(spec: &TemplateSpec) -> Result<Inputs, Vec<Mistake>> {
    let template = Template::read(spec)?;
    let mistakes = wrong_values(spec, &template);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if !spec.directory.is_dir() {
        let problem = format!("{} is no folder.", spec.directory.display());
        return Err(vec![Mistake::new("packer.directory", "Folder cannot be used", problem)]);
    }
    let files = named_files(spec, &template)?;
    let sources: Vec<Value> =
        template.files.iter().map(|(name, bytes)| json!([name, sha256(bytes)])).collect();
    let key = json!({
        "backend": "packer",
        "sources": sources,
        "files": files,
        "variables": spec.variables,
        "variables_wo_version": spec.secrets_version,
        "only": spec.only,
        "except": spec.except,
    });
    Ok(Inputs { template, key })
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// What is wrong with the values that the configuration gives.
fn wrong_values(spec: &TemplateSpec, template: &Template) -> Vec<Mistake> {
    let declared = &template.content.variables;
    let mut mistakes = Vec::new();
    for (attribute, name) in named(spec) {
        let Some(variable) = declared.get(name) else {
            let all: Vec<&str> = declared.keys().map(String::as_str).collect();
            let problem = format!("The template declares no variable {name:?}. It has: {}.", all.join(", "));
            mistakes.push(Mistake::new(attribute, "Unknown variable", problem));
            continue;
        };
        if !variable.is_text && !is_json(spec, name) {
            let problem = format!(
                "The variable {name:?} is neither a string, a number nor a bool: write its value as jsonencode(…)."
            );
            mistakes.push(Mistake::new(attribute, "Wrong value", problem));
        }
    }
    let has_value = |name: &String| {
        spec.variables.contains_key(name)
            || spec.secrets.contains_key(name)
            || template.values.contains_key(name)
    };
    let missing = declared.iter().filter(|(name, it)| it.is_required && !has_value(name));
    for (name, _) in missing.filter(|_| spec.secrets_known) {
        let problem = format!("The template's variable {name:?} has no default: give it a value.");
        mistakes.push(Mistake::new("packer.variables", "Variable without a value", problem));
    }
    for name in spec.secrets.keys().filter(|name| spec.variables.contains_key(*name)) {
        let problem = format!("{name:?} is in `variables`, too: remove one of them.");
        mistakes.push(Mistake::new("packer.variables_wo", "Two values", problem));
    }
    mistakes
}

fn named(spec: &TemplateSpec) -> impl Iterator<Item = (&'static str, &String)> {
    let plain = spec.variables.keys().map(|name| ("packer.variables", name));
    plain.chain(spec.secrets.keys().map(|name| ("packer.variables_wo", name)))
}

fn is_json(spec: &TemplateSpec, name: &str) -> bool {
    let value = spec.variables.get(name).map(String::as_str);
    let value = value.or_else(|| spec.secrets.get(name).map(|secret| secret.expose()));
    value.is_some_and(|text| serde_json::from_str::<Value>(text).is_ok())
}

/// Digests of what the template names, by its name there.
fn named_files(spec: &TemplateSpec, template: &Template) -> Result<BTreeMap<String, String>, Vec<Mistake>> {
    let root = if spec.template.is_dir() { Some(spec.template.as_path()) } else { spec.template.parent() };
    let root = root.unwrap_or(Path::new("/")).to_owned();
    let scope = Scope {
        root: root.clone(),
        directory: &spec.directory,
        variables: known_values(spec, template),
        locals: &template.content.locals,
    };
    let folders = [spec.directory.clone(), root];
    let (outputs, others) = sorted(template);
    let written = Written::of(&outputs, &scope, &folders);
    let mut hashing = Hashing { left_bytes: MOST_BYTES, left_files: MOST_FILES };
    let mut found = BTreeMap::new();
    for text in &names(spec, template, others, &scope) {
        for path in candidates(text, &folders) {
            if !is_meant(text, &path, &folders) {
                continue;
            }
            // What is not there counts no more than what is too much.
            let Ok(real) = fs::canonicalize(&path) else { continue };
            let label = label(&path, &folders);
            if written.has(&real) || found.contains_key(&label) {
                continue;
            }
            let digest = hashing.digest(&real).map_err(|error| vec![unreadable(&path, &error)])?;
            found.insert(label, digest);
        }
    }
    Ok(found)
}

/// What a template writes, links followed.
struct Written {
    /// Files and folders that it writes as a whole.
    paths: BTreeSet<PathBuf>,
    /// Folders that it writes into, and those that contain too much: where state, plugins and other people's files are.
    around: BTreeSet<PathBuf>,
}

impl Written {
    fn of(outputs: &[&Leaf], scope: &Scope<'_>, folders: &[PathBuf; 2]) -> Self {
        let homes: BTreeSet<PathBuf> = folders.iter().map(|it| real(it)).collect();
        let is_too_much = |path: &PathBuf| homes.iter().any(|home| home.starts_with(path));
        let (mut paths, mut around) = (BTreeSet::new(), homes.clone());
        for leaf in outputs {
            match scope.resolve(leaf).filter(|it| !it.text.contains(GLOB)) {
                Some(text) => paths.extend(candidates(&text, folders).iter().map(|it| real(it))),
                None => around.extend(candidates(&scope.folder_of(leaf), folders).iter().map(|it| real(it))),
            }
        }
        paths.retain(|path| !is_too_much(path));
        Self { paths, around }
    }

    /// Whether a path is written, or is a folder into which something is.
    fn has(&self, path: &Path) -> bool {
        self.paths.iter().any(|it| path.starts_with(it) || it.starts_with(path))
            || self.around.iter().any(|it| it.starts_with(path))
    }
}

/// The path with links followed, as far as it is there.
fn real(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(above), path.strip_prefix(above)) {
            // Joining nothing would end it with a slash.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    path.to_owned()
}

/// Texts that say where something is written, and the others.
fn sorted(template: &Template) -> (Vec<&Leaf>, Vec<&Leaf>) {
    template.content.leaves.iter().partition(|leaf| OUTPUTS.contains(&leaf.key.as_str()))
}

/// Texts that may name something that is read.
fn names(spec: &TemplateSpec, template: &Template, others: Vec<&Leaf>, scope: &Scope<'_>) -> Vec<Resolved> {
    let counts = |leaf: &&Leaf| !CHECKED.iter().chain(&ELSEWHERE).any(|key| *key == leaf.key);
    let others = others.into_iter().filter(counts);
    let others = others.chain(&template.value_leaves).filter_map(|leaf| scope.resolve(leaf));
    // A value of the configuration that names a file here is meant so, wherever that is.
    let value = |text: &String| Resolved { text: text.clone(), anchored: Path::new(text).is_file() };
    others.chain(spec.variables.values().map(value)).collect()
}

/// Variables whose value is known text: the configuration's, those of files, defaults.
fn known_values(spec: &TemplateSpec, template: &Template) -> BTreeMap<String, String> {
    let declared = template.content.variables.iter();
    let mut values: BTreeMap<String, String> =
        declared.filter_map(|(name, it)| Some((name.clone(), it.default.clone()?))).collect();
    for (name, value) in &template.values {
        match value {
            Some(text) => values.insert(name.clone(), text.clone()),
            None => values.remove(name),
        };
    }
    values.extend(spec.variables.clone());
    values.retain(|name, _| !spec.secrets.contains_key(name));
    values
}

/// The paths that a text may mean.
fn candidates(text: &Resolved, folders: &[PathBuf; 2]) -> Vec<PathBuf> {
    let name = text.text.strip_prefix("file://").unwrap_or(&text.text);
    if name.is_empty() || name.len() > LONGEST || name.contains(['\0', '\n']) {
        return Vec::new();
    }
    let mut all: Vec<PathBuf> = folders.iter().map(|folder| plain(&folder.join(name))).collect();
    all.dedup();
    all
}

/// Whether a path is surely meant as one on this computer. An absolute one elsewhere may as well be one in the image.
fn is_meant(text: &Resolved, path: &Path, folders: &[PathBuf; 2]) -> bool {
    let is_relative = !Path::new(text.text.strip_prefix("file://").unwrap_or(&text.text)).is_absolute();
    is_relative || text.anchored || folders.iter().any(|folder| path.starts_with(folder))
}

/// Without `.` and `..`, as the text has it: links are not followed.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// What a file is called in the key: the same wherever the template is.
fn label(path: &Path, folders: &[PathBuf; 2]) -> String {
    let below = |folder: &PathBuf| path.strip_prefix(folder).ok().map(|it| it.to_string_lossy().into_owned());
    folders.iter().find_map(below).unwrap_or_else(|| {
        let mut up = String::new();
        let mut folder = folders[1].as_path();
        while let Some(above) = folder.parent() {
            up.push_str("../");
            if let Ok(rest) = path.strip_prefix(above) {
                return format!("{up}{}", rest.display());
            }
            folder = above;
        }
        path.display().to_string()
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Mistake {
    let problem = format!("The template names {}, which is part of the cache key: {error}.", path.display());
    Mistake::new("packer.template", "File of the template cannot be read", problem)
}

/// Reads files and folders, within bounds.
struct Hashing {
    left_bytes: u64,
    left_files: usize,
}

impl Hashing {
    /// What the template names may be a link, which was followed; links below it count as links.
    fn digest(&mut self, path: &Path) -> io::Result<String> {
        let mut hasher = Context::new(&SHA256);
        self.add(&mut hasher, path)?;
        Ok(hex::encode(hasher.finish()))
    }

    /// A file's content and whether it may be run, which is what Git keeps: the rest of a mode is of the computer that it
    /// was checked out on. A folder's names and what they name. A pipe or a socket is nothing to be read.
    fn add(&mut self, hasher: &mut Context, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        self.left_files = self.left_files.checked_sub(1).ok_or_else(too_much)?;
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        if meta.is_symlink() {
            field(b"link");
            field(fs::read_link(path)?.as_os_str().as_bytes());
            return Ok(());
        }
        if meta.is_dir() {
            field(b"folder");
            let mut names =
                fs::read_dir(path)?.map(|it| it.map(|it| it.file_name())).collect::<io::Result<Vec<_>>>()?;
            names.sort();
            for name in names {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
                self.add(hasher, &path.join(name))?;
            }
            hasher.update(&u64::MAX.to_le_bytes());
        } else if meta.is_file() {
            self.left_bytes = self.left_bytes.checked_sub(meta.len()).ok_or_else(too_much)?;
            let can_run = meta.permissions().mode() & 0o111 != 0;
            field(if can_run { b"program" } else { b"file" });
            hasher.update(file_digest(path)?.as_ref());
        } else {
            field(b"other");
        }
        Ok(())
    }
}

fn too_much() -> io::Error {
    io::Error::other(format!(
        "all that it names has more than {} GiB or {MOST_FILES} files. Name what is large by an absolute path outside the template's folder, or as `iso_url` with its checksum, and put its digest into `triggers`",
        MOST_BYTES >> 30
    ))
}

#[cfg(test)]
mod tests;
