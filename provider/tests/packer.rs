//! The Packer room against a scripted Packer that hangs, fails, lies, dies and tells secrets. The real one is met in
//! `builds/packer.rs`.

#![allow(clippy::unwrap_used, reason = "tests, and what supports them")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sindri::domain::causes;
use sindri::packer::{
    Folder, Form, Job, LocateError, Packer, PackerError, Plugins, Recipe, Report, Said, Settings, Variables,
    Version,
};
use sindri::process::lock;
use sindri::process::{BuildLog, Limits, Redactor, Runner, Secret};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "p@ss \"word\" {{x}}\nsecond line of it";

fn runner() -> Runner {
    Runner::new(env!("CARGO_BIN_EXE_terraform-provider-sindri"))
}

/// A place with a fake Packer in it.
struct Bench {
    dir: tempfile::TempDir,
    log: BuildLog,
    cancel: CancellationToken,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new([&Secret::new(SECRET)]);
        let log = BuildLog::create(&dir.path().join("logs"), "t", "1", redactor).unwrap();
        Self { dir, log, cancel: CancellationToken::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a fake whose body is this shell script.
    fn script(&self, body: &str) -> PathBuf {
        let path = self.path("packer");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A fake that answers as 1.10 and does this on `build`.
    fn building(&self, build: &str) -> Packer {
        let body = format!("case $1 in version) echo Packer v1.10.0;; build) {build};; esac");
        Packer {
            program: self.script(&body),
            version: Version::new(1, 10, 0),
            env: [].into(),
            skip_init: false,
        }
    }

    fn folder(&self) -> Folder {
        Folder::create(&self.path("work")).unwrap()
    }

    fn job<'a>(&'a self, folder: &'a Folder, runner: &'a Runner) -> Job<'a> {
        let grace = Duration::from_secs(30);
        Job {
            folder,
            cwd: self.dir.path(),
            runner,
            log: &self.log,
            cancel: &self.cancel,
            grace,
            keep: false,
            keep_output: false,
            then: None,
        }
    }

    async fn build(&self, packer: &Packer) -> Result<Report, PackerError> {
        let (folder, runner) = (self.folder(), runner());
        packer.build(&self.job(&folder, &runner), |_, _| {}).await
    }

    fn logged(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }
}

async fn locate(binary: PathBuf, deadline: Duration) -> Result<Packer, LocateError> {
    let settings = Settings { binary: Some(binary), ..Settings::default() };
    let limits = Limits { cancel: CancellationToken::new(), timeout: Some(deadline) };
    settings.locate(&runner(), &limits).await
}

#[tokio::test]
async fn what_is_no_usable_packer_says_what_to_do() {
    let bench = Bench::new();
    let long = Duration::from_secs(20);
    let cases: [(&str, Duration, &[&str]); 6] = [
        (
            "echo 'version.pwd: No such file or directory'",
            long,
            &["another program", "version.pwd", "PACKER_BIN"],
        ),
        ("exit 1", long, &["another program"]),
        ("echo Packer v1.5.6", long, &["is Packer 1.5.6", "1.6.0 or later"]),
        ("kill -9 $$", long, &["killed by signal 9"]),
        ("exec sleep 600", Duration::from_millis(500), &["did not tell its version within 500ms"]),
        (
            "trap '' TERM; while :; do sleep 1; done",
            Duration::from_millis(500),
            &["did not tell its version"],
        ),
    ];
    for (body, deadline, words) in cases {
        let error = locate(bench.script(body), deadline).await.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{body}: no {word:?} in {error}");
        }
    }
    let error = locate(bench.path("none"), long).await.unwrap_err().to_string();
    assert!(error.contains("none is not installed") && error.contains("binary = "), "{error}");
    let found = locate(bench.script("[ $# = 1 ] && echo Packer v1.7.3"), long).await.unwrap();
    assert_eq!(found.version, Version::new(1, 7, 3));
}

const ONE: &str = "echo 1,q.i,artifact,0,builder-id,transcend.qemu; echo 1,q.i,artifact,0,id,VM; \
                   echo 1,q.i,artifact,0,file,0,out/disk";

#[tokio::test]
async fn one_artifact_with_its_file() {
    let bench = Bench::new();
    let packer = bench.building(&format!("echo 1,,ui,say,working; {ONE}; mkdir out; : > out/disk"));
    let report = bench.build(&packer).await.unwrap();
    let file = report.single_artifact().unwrap().file(bench.dir.path(), "disk").unwrap();
    assert_eq!(file, bench.path("out/disk"));
    assert_eq!(bench.logged(), "working\n");
    assert!(!bench.path("work").exists(), "what Packer was given is still there");
}

#[tokio::test]
async fn lies_are_found_out() {
    let bench = Bench::new();
    let report = bench.build(&bench.building("echo 1,,ui,say,done")).await.unwrap();
    assert!(matches!(report.single_artifact(), Err(PackerError::NoArtifact)));

    let two = format!("{ONE}; {}", ONE.replace("q.i", "q.j").replace("id,VM", "id,WM"));
    let report = bench.build(&bench.building(&two)).await.unwrap();
    assert!(matches!(report.single_artifact(), Err(PackerError::SeveralArtifacts { .. })));

    let report = bench.build(&bench.building(ONE)).await.unwrap();
    let error = report.single_artifact().unwrap().file(bench.dir.path(), "disk").unwrap_err();
    assert!(matches!(error, PackerError::Absent { .. }), "{error:?}");

    // A failure with exit code 0.
    let error =
        bench.build(&bench.building("echo 1,q.i,error,it broke; echo 1,,error-count,1")).await.unwrap_err();
    assert!(error.to_string().contains("it broke"), "{error}");
}

#[tokio::test]
async fn a_failing_step_is_told_by_its_own_lines() {
    let bench = Bench::new();
    let step = "echo '1,,ui,say,==> q.i: Provisioning with shell script: s'; \
                echo '1,,ui,error,==> q.i: E: nothing works'";
    let end = "echo '1,q.i,error,Script exited with non-zero exit status: 3'; echo 1,,error-count,1; exit 1";
    let error = bench.build(&bench.building(&format!("{step}; {end}"))).await.unwrap_err();
    let PackerError::Build { reason, tail, .. } = error else { panic!("{error:?}") };
    assert_eq!(reason, "Script exited with non-zero exit status: 3");
    assert_eq!(tail, "E: nothing works");

    // It dies at the step, without a word.
    let error = bench.build(&bench.building(&format!("{step}; kill -9 $$"))).await.unwrap_err();
    let PackerError::Build { reason, tail, .. } = error else { panic!("{error:?}") };
    assert_eq!((reason.as_str(), tail.as_str()), ("it ended with exit code 137", "E: nothing works"));
}

#[tokio::test]
async fn secrets_are_told_nowhere() {
    let bench = Bench::new();
    let secret = Secret::new(SECRET);
    let mut forms = vec![
        secret.expose().replace('\n', "\\n"),
        r#"p@ss \"word\" {{x}}\nsecond line of it"#.to_owned(),
        "p%40ss%20%22word%22%20%7B%7Bx%7D%7D%0Asecond%20line%20of%20it".to_owned(),
        "second line of it".to_owned(),
    ];
    use base64::Engine as _;
    forms.push(base64::engine::general_purpose::STANDARD.encode(secret.expose()));
    let lines: String = forms
        .iter()
        .map(|form| format!("1,,ui,error,==> q.i: {form}\n1,q.i,error,{form}\n{form}\n"))
        .collect();
    fs::write(bench.path("lines"), lines).unwrap();
    let packer = bench.building(&format!("cat {}; exit 1", bench.path("lines").display()));
    let error = format!("{:?}", bench.build(&packer).await.unwrap_err());
    for text in [error, bench.logged()] {
        assert!(text.contains("(redacted)"), "{text}");
        for part in ["p@ss", "second line", "p%40ss", &forms[4][..]] {
            assert!(!text.contains(part), "{part:?} in {text}");
        }
    }
}

#[tokio::test]
async fn packer_has_a_private_folder_and_no_secret_in_its_arguments() {
    let bench = Bench::new();
    let (folder, runner) = (bench.folder(), runner());
    let mut variables = Variables::default();
    variables.set("s", SECRET);
    folder.write("# template\n", &variables).unwrap();
    let seen = bench.path("seen");
    let packer = bench.building(&format!(
        "{{ stat -c %a \"$TMPDIR\"; stat -c %a \"$5\"/*; echo \"$@\"; env; : > \"$TMPDIR/left\"; }} > {}; {ONE}",
        seen.display()
    ));
    let mut heard = Vec::new();
    packer
        .build(&bench.job(&folder, &runner), |said, text| heard.push((said, text.to_owned())))
        .await
        .unwrap();
    assert_eq!(heard, Vec::<(Said, String)>::new());
    let seen = fs::read_to_string(&seen).unwrap();
    assert!(seen.starts_with("700\n"), "{seen}");
    assert!(!seen.contains("second line"), "{seen}");
    assert!(seen.contains("build -machine-readable -color=false"), "{seen}");
    for variable in ["CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1"] {
        assert!(seen.contains(variable), "{seen}");
    }
    drop(folder);
    assert!(!bench.path("work").exists());
}

#[tokio::test]
async fn cancelled_packer_has_the_time_to_clean_up_and_is_heard() {
    let bench = Bench::new();
    let packer = bench.building(
        "trap 'sleep 1; echo 1,,ui,say,cleaning up; exit 1' TERM; echo 1,,ui,say,ready; while :; do sleep 0.1; done",
    );
    let (folder, runner) = (bench.folder(), runner());
    let asked = Instant::now();
    let outcome = packer
        .build(&bench.job(&folder, &runner), |_, text| {
            if text == "ready" {
                bench.cancel.cancel();
            }
        })
        .await;
    assert!(outcome.as_ref().is_err_and(PackerError::is_cancelled), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.logged(), "ready\ncleaning up\n");
}

#[tokio::test]
async fn a_template_that_is_refused_says_by_whom_and_why() {
    let bench = Bench::new();
    for end in ["exit 1", "exit 0"] {
        let mut packer = bench.building("true");
        packer.program = bench.script(&format!("echo 'Error: no such option'; {end}"));
        let (folder, runner) = (bench.folder(), runner());
        let error = packer.validate(&bench.job(&folder, &runner)).await.unwrap_err().to_string();
        assert!(error.contains("Packer 1.10.0") && error.contains("no such option"), "{error}");
    }
}

/// No validation before: a Packer that does not accept a template begins nothing with it.
#[tokio::test]
async fn the_first_form_that_is_accepted_is_built() {
    let bench = Bench::new();
    let packer = bench.building(&format!(
        "echo build >>calls; grep -q new \"$4\"/image.pkr.hcl || {{ echo '1,,ui,error,Error: no such option'; exit 1; }}; {ONE}"
    ));
    let form =
        |hcl: &str| Form { hcl: hcl.to_owned(), plugins: Plugins::Bundled, refused: &["no such option"] };
    let (variables, lock_dir) = (Variables::default(), bench.path("cache"));
    let (folder, runner) = (bench.folder(), runner());
    let job = bench.job(&folder, &runner);
    let forms = ["# old", "# new", "# newer"].map(form);
    let recipe = Recipe { forms: &forms, variables: &variables, required: "", lock_dir: &lock_dir };
    let (taken, report) = packer.build_accepted(&job, &recipe, |_, _| {}).await.unwrap();
    assert_eq!((taken, report.artifacts().len()), (1, 1));
    assert_eq!(
        (bench.logged().as_str(), fs::read_to_string(bench.path("calls")).unwrap().lines().count()),
        ("", 2)
    );

    let error = packer.build_accepted(&job, &Recipe { forms: &forms[..1], ..recipe }, |_, _| {}).await;
    let PackerError::Invalid { output, .. } = error.unwrap_err() else { panic!("it was accepted") };
    assert_eq!(output, "Error: no such option");
    assert_eq!(bench.logged(), "Error: no such option\n");
}

#[tokio::test]
async fn plugins_are_got_once_unless_that_is_not_wanted() {
    let bench = Bench::new();
    let calls = bench.path("calls");
    let mut packer = bench.building("true");
    packer.program = bench.script(&format!("[ $1 = init ] && sleep 0.2 && echo x >> {}", calls.display()));
    let (folder, runner) = (bench.folder(), runner());
    let job = bench.job(&folder, &runner);
    let lock = bench.path("cache");
    let (one, two) = tokio::join!(packer.init(&job, "qemu 1", &lock), packer.init(&job, "qemu 1", &lock));
    one.unwrap();
    two.unwrap();
    assert_eq!(fs::read_to_string(&calls).unwrap(), "x\n");
    packer.skip_init = true;
    packer.init(&job, "qemu 2", &lock).await.unwrap();
    assert_eq!(fs::read_to_string(&calls).unwrap(), "x\n");
    packer.skip_init = false;
    packer.program = bench.script("echo no network; exit 1");
    let error = packer.init(&job, "qemu 3", &lock).await.unwrap_err().to_string();
    assert!(error.contains("no network") && error.contains("plugin_dir"), "{error}");
}

#[tokio::test]
async fn who_gives_up_waiting_for_plugins_is_told_who_gets_them() {
    let bench = Bench::new();
    let (packer, folder, runner, dir) =
        (bench.building("true"), bench.folder(), runner(), bench.path("cache"));
    fs::create_dir(&dir).unwrap();
    let _held = lock::try_open(&dir.join("packer-init.lock")).unwrap().unwrap();
    let (job, cancel) = (bench.job(&folder, &runner), bench.cancel.clone());
    let (waited, ()) = tokio::join!(packer.init(&job, "qemu 4", &dir), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    let told = causes(&waited.unwrap_err());
    assert!(told.contains("another resource of this run holds the lock"), "{told}");
}
