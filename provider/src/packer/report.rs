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
        match said {
            Said::Say if begins_step(text) => self.step.clear(),
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

    /// Whether Packer told that it stopped a step at its time limit.
    pub fn is_late(&self) -> bool {
        self.late
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn report(lines: &str) -> Report {
        let mut report = Report::default();
        for record in lines.lines().filter_map(Record::parse) {
            report.take(&record);
        }
        report
    }

    #[test]
    fn an_artifact_that_is_handed_on_counts_once() {
        let one = "1,q.i,artifact-count,2
1,q.i,artifact,0,builder-id,transcend.qemu
1,q.i,artifact,0,id,VM
1,q.i,artifact,0,string,VM files in directory: out
1,q.i,artifact,0,files-count,1
1,q.i,artifact,0,file,0,out/disk%!(PACKER_COMMA)1.raw
1,q.i,artifact,0,end
";
        let again = one.replace("artifact,0", "artifact,1");
        let report_once = report(&format!("{one}{again}"));
        let artifact = report_once.single_artifact().unwrap();
        assert_eq!((artifact.builder_id.as_str(), artifact.id.as_str()), ("transcend.qemu", "VM"));
        assert_eq!(artifact.files, [PathBuf::from("out/disk,1.raw")]);
        let other = one.replace("q.i", "q.j").replace("id,VM", "id,WM");
        let two = report(&format!("{one}{other}")).single_artifact().unwrap_err().to_string();
        assert!(two.contains("VM (transcend.qemu), WM (transcend.qemu)"), "{two}");
        assert!(matches!(report("1,,artifact-count,0").single_artifact(), Err(PackerError::NoArtifact)));
    }

    #[test]
    fn a_list_of_artifacts_counts_when_it_is_told_to_its_end() {
        let all = "1,,ui,say,Build 'q.i' finished after 2 seconds.
1,,ui,say,Build 'q.j' finished.
1,,ui,say,\\n==> Builds finished. The artifacts of successful builds are:
1,q.i,artifact-count,1
1,q.i,artifact,0,id,VM
1,q.i,artifact,0,end
1,q.j,artifact-count,2
1,q.j,artifact,0,end
1,q.j,artifact,1,id,WM
1,q.j,artifact,1,end";
        let lines: Vec<&str> = all.lines().collect();
        for cut in 0..=lines.len() {
            assert_eq!(report(&lines[..cut].join("\n")).is_complete(), cut == lines.len(), "{cut}");
        }
    }

    #[test]
    fn a_failing_steps_own_lines_and_packers_reason() {
        let failed = report(
            "1,,ui,say,==> q.i: Provisioning with shell script: steps/1
1,,ui,message,    q.i: fine
1,,ui,say,==> q.i: Provisioning with shell script: steps/2
1,,ui,message,    q.i: E: no such thing
1,,ui,error,==> q.i: really not
1,,ui,say,==> q.i: Provisioning step had errors: Running the cleanup provisioner%!(PACKER_COMMA) if present...
1,,ui,say,==> q.i: Deleting output directory...
1,,ui,error,Build 'q.i' errored: Script exited with non-zero exit status: 3
1,,error-count,1
1,q.i,error,Script exited with non-zero exit status: 3
1,,ui,error,--> q.i: Script exited with non-zero exit status: 3",
        );
        assert!(failed.has_failed());
        assert_eq!(failed.step_tail(), "E: no such thing\nreally not");
        assert_eq!(failed.reason(1), "Script exited with non-zero exit status: 3");
        assert_eq!(report("").reason(7), "it ended with exit code 7");
        assert!(!report("1,,error-count,0").has_failed());
        let late = report(
            "1,,ui,say,==> q.i: Provisioning with shell script: s
1,,ui,message,    q.i: Provisioning step had errors
1,,ui,error,==> q.i: Cancelling provisioner after a timeout...",
        );
        assert!(late.is_late() && !late.has_failed(), "a script's words are no proof");
        assert_eq!(late.step_tail(), "Provisioning step had errors");
    }

    /// As Packer 1.6.6 says it.
    #[test]
    fn what_is_said_before_anything_begins_is_about_the_template() {
        let refused = "1,,ui,error,Error: Unknown source type none\\n\\n  on it.pkr.hcl line 1:\\n\\nknown builders: [a%!(PACKER_COMMA) b]\\n\\n
1,,ui,say,\\n==> Wait completed after 3 microseconds
1,,ui,say,\\n==> Builds finished but no artifacts were created.";
        let objections =
            "Error: Unknown source type none\n\n  on it.pkr.hcl line 1:\n\nknown builders: [a, b]";
        assert_eq!(report(refused).objections().as_deref(), Some(objections));
        for begun in ["1,,ui,say,==> q.i: Waiting", "1,,ui,message,    q.i: fine", "1,q.i,artifact-count,0"] {
            let begun = report(&format!("{begun}\n{refused}"));
            assert!(begun.has_begun() && begun.objections().is_none());
        }
        assert_eq!(report("1,,ui,error,Warning: deprecated").objections(), None);
        assert_eq!(report("").objections(), None);
    }

    #[test]
    fn a_script_in_packers_own_voice_is_kept() {
        let failed = report(
            "1,,ui,say,==> q.i: Waiting for SSH to become available...
1,,ui,say,==> q.i: Provisioning with shell script: steps/1
1,,ui,say,==> q.i: building
1,,ui,say,==> q.i: no such package
1,,ui,error,==> q.i: exit 3
1,,ui,say,==> q.i: Provisioning step had errors: Running the cleanup provisioner%!(PACKER_COMMA) if present...
1,,ui,say,==> q.i: Deleting output directory...",
        );
        assert_eq!(failed.step_tail(), "building\nno such package\nexit 3");
    }

    proptest! {
        #[test]
        fn memory_is_bounded_whatever_is_told(
            lines in prop::collection::vec(("(ui|artifact|artifact-count|error|error-count)", "[0-9]{0,3}", "(say|message|error|id|file)", ".{0,40}"), 0..200),
            times in 1..8usize,
        ) {
            let mut report = Report::default();
            for _ in 0..times {
                for (kind, one, two, three) in &lines {
                    let line = format!("1,t{one},{kind},{one},{two},{three},{three}");
                    if let Some(record) = Record::parse(&line) {
                        report.take(&record);
                    }
                }
            }
            prop_assert!(report.artifacts.len() <= MOST);
            prop_assert!(report.artifacts.values().all(|it| it.files.len() <= MOST));
            prop_assert!(report.announced.len() <= MOST && report.ended.len() <= MOST);
            prop_assert!(report.errors.len() <= MOST && report.step.len() <= TAIL);
        }
    }
}
