use super::*;
use crate::domain::image_spec::{Check, OnError, Security};
use crate::process::Secret;

/// Alters a request.
type Change = fn(&mut ImageSpec, &mut KeyInputs);

fn spec() -> ImageSpec {
    ImageSpec {
        name_prefix: "dev".into(),
        environment: Environment::default(),
        steps: vec![step(Action::Inline(vec!["true".into()]))],
        security: Security { clean_sensitive_data: true, remove_ssh_host_keys: true },
        checks: vec![Check { name: "one".into(), command: "true".into() }],
        on_error: OnError::Cleanup,
    }
}

fn step(action: Action) -> Step {
    Step { action, environment: Environment::default(), user: None, timeout: None }
}

fn key(spec: &ImageSpec, inputs: &KeyInputs) -> CacheKey {
    CacheKey::of(spec, inputs).unwrap()
}

fn upload(source: &Path) -> ImageSpec {
    let action = Action::Upload { source: source.into(), destination: "/x".into(), mode: None, owner: None };
    ImageSpec { steps: vec![step(action)], ..spec() }
}

#[test]
fn is_63_lower_case_hex_digits_and_stays_the_same() {
    let key = key(&spec(), &KeyInputs::default());
    assert!(CacheKey::try_from(key.as_str().to_owned()).is_ok());
    // Changing this value rebuilds every user's images: raise RECIPE on purpose instead.
    assert_eq!(key.as_str(), "52fc237f3dbace75184c28b737deada67d7a116730e9f973bec9c98154638ff");
}

#[test]
fn what_changes_the_image_changes_the_key() {
    let changes: [(&str, Change); 10] = [
        ("prefix", |spec, _| spec.name_prefix = "prod".into()),
        ("environment", |spec, _| drop(spec.environment.plain.insert("A".into(), "1".into()))),
        ("secrets' version", |_, inputs| inputs.secrets_version = Some(2)),
        ("step's secrets' version", |_, inputs| inputs.step_secrets_versions = vec![Some(2)]),
        ("step's lines", |spec, _| spec.steps[0].action = Action::Inline(vec!["false".into()])),
        ("step's user", |spec, _| spec.steps[0].user = Some("app".into())),
        ("steps", |spec, _| spec.steps.push(step(Action::Reboot))),
        ("clean-up", |spec, _| spec.security.remove_ssh_host_keys = false),
        ("triggers", |_, inputs| drop(inputs.triggers.insert("base".into(), "2".into()))),
        ("target", |_, inputs| inputs.target = json!({"suite": "trixie"})),
    ];
    let mut keys = vec![key(&spec(), &KeyInputs::default())];
    for (name, change) in changes {
        let (mut spec, mut inputs) = (spec(), KeyInputs::default());
        change(&mut spec, &mut inputs);
        let key = key(&spec, &inputs);
        assert!(!keys.contains(&key), "{name} does not change the key");
        keys.push(key);
    }
}

#[test]
fn what_does_not_change_the_image_does_not_change_the_key() {
    let base = key(&spec(), &KeyInputs::default());
    let changes: [(&str, Change); 4] = [
        ("on_error", |spec, _| spec.on_error = OnError::Keep),
        ("a step's timeout", |spec, _| spec.steps[0].timeout = Some(std::time::Duration::from_secs(1))),
        ("a secret's value", |spec, _| {
            drop(spec.environment.secret.insert("T".into(), Secret::new("value")));
        }),
        ("a step's secret", |spec, _| {
            drop(spec.steps[0].environment.secret.insert("T".into(), Secret::new("value")));
        }),
    ];
    for (name, change) in changes {
        let (mut spec, mut inputs) = (spec(), KeyInputs::default());
        change(&mut spec, &mut inputs);
        assert_eq!(key(&spec, &inputs), base, "{name} changes the key");
    }
}

#[test]
fn a_scripts_path_does_not_matter_its_content_does() {
    let script = |name: &str, content: &str| {
        let action = Action::Script { name: name.into(), content: content.into() };
        key(&ImageSpec { steps: vec![step(action)], ..spec() }, &KeyInputs::default())
    };
    assert_eq!(script("a.sh", "true"), script("/b/c.sh", "true"));
    assert_ne!(script("a.sh", "true"), script("a.sh", "false"));
}

#[test]
fn an_uploads_content_names_and_modes_matter() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    for dir in [&one, &two] {
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "same").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("sub/link")).unwrap();
    }
    let inputs = KeyInputs::default();
    let of = |dir: &tempfile::TempDir| key(&upload(dir.path()), &inputs);
    assert_eq!(of(&one), of(&two));

    let same = of(&one);
    fs::write(two.path().join("sub/file"), "other").unwrap();
    assert_ne!(of(&two), same, "content");
    fs::write(two.path().join("sub/file"), "same").unwrap();
    assert_eq!(of(&two), same);
    fs::set_permissions(two.path().join("sub/file"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(of(&two), same, "mode");
    fs::set_permissions(two.path().join("sub/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(two.path().join("sub"), fs::Permissions::from_mode(0o2700)).unwrap();
    assert_eq!(of(&two), same, "another umask");
    fs::rename(one.path().join("sub/file"), one.path().join("sub/renamed")).unwrap();
    assert_ne!(of(&one), same, "name");
}

#[test]
fn an_uploads_own_mode_counts_in_its_sources_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "same").unwrap();
    let with = |mode| {
        let action =
            Action::Upload { source: file.clone(), destination: "/x".into(), mode: Some(mode), owner: None };
        key(&ImageSpec { steps: vec![step(action)], ..spec() }, &KeyInputs::default())
    };
    let before = with(0o600);
    assert_ne!(with(0o640), before);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(with(0o600), before);
}

#[test]
fn a_missing_upload_is_named() {
    let error = CacheKey::of(&upload(Path::new("/no/such/file")), &KeyInputs::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/such/file for step 0");
}
