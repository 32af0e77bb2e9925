//! What a run of Packer told: artifacts, errors, and the lines of the step that it was at. In bounded memory, whatever
//! it prints.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::PackerError;
use super::output::Record;

/// How many of a step's last lines are kept.
const TAIL: usize = 20;
/// How many artifacts, files of one, and errors are kept.
const MOST: usize = 256;
/// What Packer says when it begins with a part of a build, after the target's name.
const STEP_BEGINS: [&str; 5] = [
    "Provisioning with ",
    "Running local shell script: ",
    "Uploading ",
    "Pausing ",
    "Gracefully halting virtual machine",
];
/// The longest text that is kept of a line.
const LONGEST: usize = 4096;

/// In which voice Packer says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Packer itself: a step begins.
    Say,
    /// What happens in it, such as a script's output.
    Message,
    /// An error of Packer, or what a script wrote to its standard error.
    Error,
}

/// Something that Packer made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Which kind of builder made it.
    pub builder_id: String,
    /// Its id, in the builder's own form.
    pub id: String,
    /// Its files on this computer.
    pub files: Vec<PathBuf>,
    /// For people.
    pub text: String,
}

impl Artifact {
    /// The file of this name, where Packer ran in `cwd`.
    ///
    /// # Errors
    /// When the artifact has none, or there is no such file.
    pub fn file(&self, cwd: &Path, name: &str) -> Result<PathBuf, PackerError> {
        let named = self.files.iter().find(|file| file.file_name().is_some_and(|it| it == name));
        let path = cwd.join(named.map_or(Path::new(name), PathBuf::as_path));
        if named.is_some() && path.is_file() { Ok(path) } else { Err(PackerError::Absent { path }) }
    }
}

/// How Packer's errors end where it has stopped something.
const STOPPED: [&str; 2] = ["context canceled", "context deadline exceeded"];

/// What has been told so far.
#[derive(Debug, Default)]
pub struct Report {
    artifacts: BTreeMap<(String, u32), Artifact>,
    /// How many artifacts Packer announced of each target that is finished; none where it has not come to that.
    announced: BTreeMap<String, Option<usize>>,
    /// Those that it told all of.
    ended: BTreeSet<(String, u32)>,
    /// There is more than is kept.
    cut: bool,
    errors: Vec<String>,
    /// A build has said something: Packer has accepted the template.
    begun: bool,
    /// What Packer has against the template.
    objections: Vec<String>,
    step: VecDeque<String>,
    failed: bool,
    /// The step's lines are complete: what follows is Packer's clean-up.
    closed: bool,
    /// Packer has told of a limit for the step that comes next.
    limit: bool,
    /// The step has a limit.
    limited: bool,
    late: bool,
}

impl Report {
    /// Takes one record. What Packer says to people is returned.
    pub fn take<'a>(&mut self, record: &'a Record) -> Option<(Said, &'a str)> {
        self.begun |= !record.target.is_empty();
        match record.kind.as_str() {
            "ui" => return self.said(record),
            "error" => self.error(record.field(0)),
            "error-count" if record.field(0) != "0" => self.failed = true,
            "artifact" => self.artifact(record),
            "artifact-count" => self.announce(&record.target, record.field(0).parse().ok()),
            _ => {}
        }
        None
    }

    fn said<'a>(&mut self, record: &'a Record) -> Option<(Said, &'a str)> {
        let text = record.data.get(1)?;
        let said = match record.field(0) {
            "say" => Said::Say,
            "message" => Said::Message,
            "error" => Said::Error,
            _ => return None,
        };
        self.begun |= text.lines().any(|line| without_target(line) != line);
        if !self.begun && said == Said::Error && self.objections.len() < MOST {
            self.objections.push(shorten(text.trim()));
        }
        if said == Said::Say
            && let Some(target) = finished(text)
            && !self.announced.contains_key(target)
        {
            self.announce(target, None);
        }
        // A script can print this, too: it closes the step's lines, and is no proof of a failure.
        self.late |= said != Said::Message && text.contains("Cancelling provisioner after a timeout");
        self.closed |= self.late || (said == Said::Say && text.contains("Provisioning step had errors"));
        if self.closed || self.failed {
            return Some((said, text));
        }
        self.limit |= said != Said::Message && text.contains(" timeout for the next provisioner");
        match said {
            Said::Say if begins_step(text) => {
                self.step.clear();
                self.limited = std::mem::take(&mut self.limit);
            }
            // Packer 1.13 and later tells a script's output in its own voice.
            Said::Say | Said::Message | Said::Error => {
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    if self.step.len() == TAIL {
                        self.step.pop_front();
                    }
                    self.step.push_back(shorten(without_target(line)));
                }
            }
        }
        Some((said, text))
    }

    fn error(&mut self, text: &str) {
        self.failed = true;
        let text = shorten(text.trim());
        if self.errors.len() < MOST && !self.errors.contains(&text) {
            self.errors.push(text);
        }
    }

    fn announce(&mut self, target: &str, count: Option<usize>) {
        if self.announced.len() == MOST && !self.announced.contains_key(target) {
            self.cut = true;
            return;
        }
        self.announced.insert(target.to_owned(), count);
    }

    fn artifact(&mut self, record: &Record) {
        let Ok(index) = record.field(0).parse() else { return };
        let key = (record.target.clone(), index);
        if self.artifacts.len() == MOST && !self.artifacts.contains_key(&key) {
            self.cut = true;
            return;
        }
        if record.field(1) == "end" {
            self.ended.insert(key.clone());
        }
        let artifact = self.artifacts.entry(key).or_default();
        match record.field(1) {
            "builder-id" => artifact.builder_id = record.field(2).to_owned(),
            "id" => artifact.id = record.field(2).to_owned(),
            "string" => artifact.text = shorten(record.field(2)),
            "file" if artifact.files.len() < MOST => artifact.files.push(record.field(3).into()),
            _ => {}
        }
    }

    /// Whether a build has said something. Packer looks at the whole template before it begins anything with it.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// What Packer has against the template, when that is why nothing has begun.
    pub fn objections(&self) -> Option<String> {
        let is_refused = !self.begun && self.objections.iter().any(|text| text.starts_with("Error: "));
        is_refused.then(|| self.objections.join("\n\n"))
    }

    /// Whether Packer told of a failure. Its exit code alone is not to be relied on.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether Packer stopped a step at its time limit. It does not always say so: the step's end races with its word.
    pub fn is_late(&self) -> bool {
        let stopped = |error: &String| STOPPED.iter().any(|words| error.ends_with(words));
        self.late || (self.limited && self.errors.iter().any(stopped))
    }

    /// Whether Packer came to the end of telling what it made, of every target that it finished.
    pub fn is_complete(&self) -> bool {
        let ended = |target: &str| self.ended.iter().filter(|(other, _)| other == target).count();
        let is_told = |(target, count): (&String, &Option<usize>)| *count == Some(ended(target));
        !self.cut && !self.announced.is_empty() && self.announced.iter().all(is_told)
    }

    /// What was made, each thing once: a post-processor that hands a thing on tells of it again.
    pub fn artifacts(&self) -> Vec<&Artifact> {
        let mut distinct: Vec<&Artifact> = Vec::new();
        for artifact in self.artifacts.values() {
            if !distinct.contains(&artifact) {
                distinct.push(artifact);
            }
        }
        distinct
    }

    /// The one thing that was made.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn single_artifact(&self) -> Result<&Artifact, PackerError> {
        let all = self.artifacts();
        match all.as_slice() {
            [] => Err(PackerError::NoArtifact),
            [one] => Ok(one),
            several => {
                let shown = |it: &&Artifact| format!("{} ({})", it.id, it.builder_id);
                Err(PackerError::SeveralArtifacts { ids: several.iter().map(shown).collect() })
            }
        }
    }

    /// Why it failed; `code` is the exit code.
    pub fn reason(&self, code: i32) -> String {
        if self.errors.is_empty() {
            format!("it ended with exit code {code}")
        } else {
            self.errors.join("; ")
        }
    }

    /// The last lines of the step that failed, or is running.
    pub fn step_tail(&self) -> String {
        self.step.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// The target that Packer says to be finished: `Build 'file.a' finished after 2 milliseconds.`
fn finished(text: &str) -> Option<&str> {
    let (target, rest) = without_target(text.trim()).strip_prefix("Build '")?.split_once("' ")?;
    rest.starts_with("finished").then_some(target)
}

/// Whether Packer says that a provisioner begins, or that the steps are over.
fn begins_step(text: &str) -> bool {
    let text = without_target(text);
    STEP_BEGINS.iter().any(|words| text.starts_with(words))
}

/// A script's line without the `    qemu.image: ` or `==> qemu.image: ` before it.
pub(super) fn without_target(line: &str) -> &str {
    let rest = line.strip_prefix("==> ").or_else(|| line.strip_prefix("    ")).unwrap_or(line);
    match rest.split_once(": ") {
        Some((target, text)) if rest.len() < line.len() && !target.contains(' ') => text,
        _ => line,
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
