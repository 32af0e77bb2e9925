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

/// The provisioner's own end races in Packer with the word about it (`TimeoutProvisioner`), which may not come.
#[test]
fn a_step_that_was_stopped_at_its_limit_is_late_though_packer_does_not_say_so() {
    let limit = "1,,ui,say,==> q.i: Setting a 3s timeout for the next provisioner...\n";
    let step = "1,,ui,say,==> q.i: Provisioning with shell script: s\n";
    for (said, error, late) in [
        (format!("{limit}{step}"), "context canceled", true),
        (format!("{limit}{step}"), "Error executing script: context deadline exceeded", true),
        (format!("{limit}{step}"), "Script exited with non-zero exit status: 3", false),
        (step.to_owned(), "context canceled", false),
        (format!("{limit}{step}{step}"), "context canceled", false),
    ] {
        let report = report(&format!("{said}1,q.i,error,{error}"));
        assert_eq!(report.is_late(), late, "{said} {error}");
    }
}

/// As Packer 1.6.6 says it.
#[test]
fn what_is_said_before_anything_begins_is_about_the_template() {
    let refused = "1,,ui,error,Error: Unknown source type none\\n\\n  on it.pkr.hcl line 1:\\n\\nknown builders: [a%!(PACKER_COMMA) b]\\n\\n
1,,ui,say,\\n==> Wait completed after 3 microseconds
1,,ui,say,\\n==> Builds finished but no artifacts were created.";
    let objections = "Error: Unknown source type none\n\n  on it.pkr.hcl line 1:\n\nknown builders: [a, b]";
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
