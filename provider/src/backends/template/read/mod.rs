//! Reads a template as far as the key needs it: which variables it declares, which texts are in it, whether it requires
//! plugins. What it means is Packer's business.
//!
//! Source: Packer's documentation of HCL2 templates (<https://developer.hashicorp.com/packer/docs/templates/hcl_templates>)
//! and of JSON ones (<https://developer.hashicorp.com/packer/docs/templates/legacy_json_templates>).

mod go;
mod hcl;
mod json;
mod leaf;
mod scope;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Mistake, TemplateSpec};
pub(super) use leaf::{ARTIFICE_FILES, Leaf};
pub(super) use scope::{GLOB, Resolved, Scope};

/// The longest file that is read: templates have kilobytes.
const LONGEST: u64 = 4 << 20;
/// The most files of a folder.
const MOST: usize = 1000;

/// What Packer reads in a folder, beside templates.
const AUTO: [&str; 2] = [".auto.pkrvars.hcl", ".auto.pkrvars.json"];

/// In which language a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// HCL2 as people write it.
    Hcl,
    /// HCL2 in JSON.
    HclJson,
    /// The older language.
    Json,
}

/// A variable of the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Variable {
    /// Whether a value of it is text as it stands; that of another one is written in JSON.
    pub(super) is_text: bool,
    /// Whether it needs a value.
    pub(super) is_required: bool,
    /// Its default, where that is a plain text.
    pub(super) default: Option<String>,
}

/// What one or more files say.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) locals: BTreeMap<String, Leaf>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) requires_plugins: bool,
}

/// A template with its files of values.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) content: Content,
    /// The template's files by name, and then those of values in their order.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// What the files of values say, by variable; none where it is no plain text.
    pub(super) values: BTreeMap<String, Option<String>>,
    /// Texts in those.
    pub(super) value_leaves: Vec<Leaf>,
}

/// A mistake in a file: a line, where it is known, and what is wrong.
pub(super) struct Syntax {
    line: Option<usize>,
    problem: String,
}

impl Template {
    /// Reads all files.
    ///
    /// # Errors
    /// What is wrong, each on its attribute, with file and line.
    pub(super) fn read(spec: &TemplateSpec) -> Result<Self, Vec<Mistake>> {
        let wrong =
            |problem: String| vec![Mistake::new("packer.template", "Template cannot be read", problem)];
        let (names, auto) = sources(&spec.template).map_err(wrong)?;
        let mut template = Self {
            content: Content::default(),
            files: Vec::new(),
            values: BTreeMap::new(),
            value_leaves: Vec::new(),
        };
        let mut mistakes = Vec::new();
        for path in names {
            let read = read(&path).and_then(|bytes| {
                let form = form_of(&path).unwrap_or(Form::Json);
                let content = parse(form, &bytes, &path)?;
                template.content.extend(content);
                template.files.push((name(&path), bytes));
                Ok(())
            });
            mistakes.extend(read.err().into_iter().flat_map(wrong));
        }
        for path in auto {
            let taken = template.take_values(&path);
            mistakes.extend(taken.err().into_iter().flat_map(wrong));
        }
        for (index, path) in spec.variable_files.iter().enumerate() {
            let at = format!("packer.variable_files.{index}");
            if let Err(problem) = template.take_values(path) {
                mistakes.push(Mistake::new(at, "File of variables cannot be read", problem));
            }
        }
        if mistakes.is_empty() { Ok(template) } else { Err(mistakes) }
    }

    /// Takes in a file of values.
    fn take_values(&mut self, path: &Path) -> Result<(), String> {
        let bytes = read(path)?;
        let is_hcl = path.extension().is_some_and(|it| it == "hcl");
        if !is_hcl && path.extension().is_none_or(|it| it != "json") {
            return Err(format!("{} must end in .hcl or .json.", path.display()));
        }
        let text = text(&bytes, path)?;
        let leaves = if is_hcl { hcl::values(text) } else { json::values(text) };
        let leaves = leaves.map_err(|syntax| syntax.told(path))?;
        for (variable, leaf) in leaves {
            let plain = leaf.as_ref().and_then(Leaf::plain);
            self.values.insert(variable, plain);
            self.value_leaves.extend(leaf);
        }
        self.files.push((name(path), bytes));
        Ok(())
    }
}

impl Content {
    fn extend(&mut self, other: Self) {
        self.variables.extend(other.variables);
        self.locals.extend(other.locals);
        self.leaves.extend(other.leaves);
        self.requires_plugins |= other.requires_plugins;
    }
}

impl Syntax {
    fn told(self, path: &Path) -> String {
        let line = self.line.map(|line| format!(", line {line}")).unwrap_or_default();
        format!("{}{line}: {}.", path.display(), self.problem.trim_end_matches('.'))
    }
}

/// The template's files, and files of values that Packer reads with them.
fn sources(template: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), String> {
    let meta =
        fs::metadata(template).map_err(|error| format!("{} cannot be read: {error}.", template.display()))?;
    if !meta.is_dir() {
        if form_of(template).is_none() {
            let problem = "must end in .pkr.hcl, .pkr.json or .json, or be a folder";
            return Err(format!("{} {problem}.", template.display()));
        }
        return Ok((vec![template.to_owned()], Vec::new()));
    }
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}.", template.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(template).map_err(unreadable)? {
        all.push(entry.map_err(unreadable)?.path());
    }
    all.sort();
    let is_template = |path: &PathBuf| matches!(form_of(path), Some(Form::Hcl | Form::HclJson));
    let is_auto = |path: &PathBuf| AUTO.iter().any(|end| name(path).ends_with(end));
    let files: Vec<PathBuf> = all.iter().filter(|path| is_template(path)).cloned().collect();
    let auto = all.iter().filter(|path| is_auto(path)).cloned().collect();
    match files.len() {
        0 => Err(format!("{} has no file that ends in .pkr.hcl or .pkr.json.", template.display())),
        1..=MOST => Ok((files, auto)),
        many => Err(format!("{} has {many} templates; {MOST} are possible.", template.display())),
    }
}

/// By the name, as Packer does.
fn form_of(path: &Path) -> Option<Form> {
    let name = name(path);
    let forms = [(".pkr.hcl", Form::Hcl), (".pkr.json", Form::HclJson), (".json", Form::Json)];
    forms.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, form)| form)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's content. Neither a folder nor a pipe is one.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("{} cannot be read: {error}.", path.display());
    let meta = fs::metadata(path).map_err(unreadable)?;
    if meta.is_dir() {
        return Err(format!("{} is a folder: name a file.", path.display()));
    }
    if !meta.is_file() {
        return Err(format!("{} is no regular file.", path.display()));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("{} has more than {} MiB.", path.display(), LONGEST >> 20));
    }
    Ok(bytes)
}

/// How deep it may be nested is its parser's business: brackets in strings and comments are none.
fn text<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{} is no UTF-8 text.", path.display()))
}

fn parse(form: Form, bytes: &[u8], path: &Path) -> Result<Content, String> {
    let text = text(bytes, path)?;
    let parsed = match form {
        Form::Hcl => hcl::template(text),
        Form::HclJson => json::hcl_template(text),
        Form::Json => json::template(text),
    };
    parsed.map_err(|syntax| syntax.told(path))
}
