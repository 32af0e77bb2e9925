use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::process::Secret;

const HOSTILE: &str = "a 'b' \"c\" $(touch canary) `touch canary` ${x} {{ .Path }} \\ %s\nsecond line\té";

/// A part's file, read by a real shell, with this instead of what the guest has for it.
fn run(text: &str, dir: &Path) -> String {
    let here = dir.display().to_string();
    let text = text.replace(STAGE, &here);
    std::fs::write(dir.join("part"), text).unwrap();
    let output = Command::new("sh").arg("part").current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_shell_sees_scripts_and_environments_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let mut task = Task {
        name: "1".into(),
        work: Work::Script(HOSTILE.into()),
        environment: Environment::default(),
        user: None,
        timeout: None,
    };
    task.environment.plain = BTreeMap::from([("PLAIN".to_owned(), HOSTILE.to_owned())]);
    task.environment.secret = BTreeMap::from([("TOKEN".to_owned(), Secret::new(HOSTILE))]);
    let stage = stage(&format!("printf %s {} >{STAGE}/script", ssh::quote(HOSTILE)), "script");
    let show = r#"cat "$SINDRI_STAGE/script"; printf '|%s' "$PLAIN" "$TOKEN" "$DEBIAN_FRONTEND""#;
    let seen = run(&format!("{stage}{}", line(&task, "", show).unwrap()), dir.path());
    assert_eq!(seen, format!("{HOSTILE}|{HOSTILE}|{HOSTILE}|noninteractive"));
    assert!(!dir.path().join("canary").exists());
    task.environment.plain = BTreeMap::from([("a b".to_owned(), String::new())]);
    assert!(matches!(line(&task, "", show), Err(PartError::Shell { .. })));
}

#[test]
fn our_own_parts_are_shell() {
    for text in [PREPARE, REBOOT, RETURN, &format!("{RETURN}{PREPARE}")] {
        let status = Command::new("sh").args(["-n", "-c", text]).status().unwrap();
        assert!(status.success(), "{text}");
    }
    assert!(PREPARE.contains(MEMORY) && PREPARE.contains(INCOMING));
}
