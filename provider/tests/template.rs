//! Builds of templates against a scripted Packer: what it tells of is kept or deleted, however it ends.

#![allow(clippy::unwrap_used, reason = "tests, and what supports them")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sindri::backends::template::{Settled, TemplateSpec, Templates};
use sindri::domain::cache_key::KeyInputs;
use sindri::domain::causes;
use sindri::domain::{
    BackendError, BuildRequest, Built, CacheKey, Environment, Holder, ImageBackend, ImageBuilder, ImageSpec,
    Labels, OnError, Security,
};
use sindri::packer::Settings;
use sindri::process::Runner;
use tokio_util::sync::CancellationToken;

/// Makes a file and tells of it, as Packer does at its end.
const MADE: &str = r"echo made >a.txt; cat <<'END'
1,,ui,say,Build 'file.a' finished after 1 millisecond.
1,,ui,say,\n==> Builds finished. The artifacts of successful builds are:
1,file.a,artifact-count,1
1,file.a,artifact,0,builder-id,packer.file
1,file.a,artifact,0,id,File
1,file.a,artifact,0,files-count,1
1,file.a,artifact,0,file,0,a.txt
1,file.a,artifact,0,end
END
";
const TEMPLATE: &str = r#"
source "file" "a" {
  target  = "a.txt"
  content = "made"
}
build {
  sources = ["source.file.a"]
}
"#;

/// A folder with a template, a scripted Packer, and what the provider keeps.
struct Bench {
    dir: tempfile::TempDir,
    templates: Arc<Templates>,
    cancel: CancellationToken,
}

impl Bench {
    /// Its Packer does this on `build`.
    fn new(build: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (packer, data) = (dir.path().join("packer"), dir.path().join("data"));
        let script = format!(
            "#!/bin/sh\ncase $1 in version) echo Packer v1.10.0; exit;; build) ;; *) exit;; esac\ndata={}\n{build}\n",
            data.display()
        );
        fs::write(&packer, script).unwrap();
        fs::set_permissions(&packer, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("it.pkr.hcl"), TEMPLATE).unwrap();
        let templates = Templates {
            data_dir: data,
            cache_dir: dir.path().join("cache"),
            runner: Runner::new(env!("CARGO_BIN_EXE_terraform-provider-sindri")),
            packer: Settings { binary: Some(packer), ..Settings::default() },
            claims: Default::default(),
            keepers: Vec::new(),
        };
        Self { dir, templates: Arc::new(templates), cancel: CancellationToken::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn build(&self) -> Result<Built, BackendError> {
        let spec = TemplateSpec {
            template: self.path("it.pkr.hcl"),
            directory: self.dir.path().to_owned(),
            on_error: "cleanup".into(),
            secrets_known: true,
            ..TemplateSpec::default()
        };
        let key_inputs = KeyInputs { target: spec.key_inputs().unwrap(), ..KeyInputs::default() };
        let image = ImageSpec {
            name_prefix: "web".into(),
            environment: Environment::default(),
            steps: Vec::new(),
            security: Security { clean_sensitive_data: false, remove_ssh_host_keys: false },
            checks: Vec::new(),
            on_error: OnError::Cleanup,
        };
        let request = BuildRequest {
            key: CacheKey::of(&image, &key_inputs).unwrap(),
            spec: image,
            key_inputs,
            labels: Labels::default(),
            inputs: serde_json::Value::Null,
            holder: Holder::random(),
            share: false,
            not_before: None,
            deadline: chrono::Utc::now() + Duration::from_secs(600),
            cancel: self.cancel.clone(),
        };
        self.templates.builder(spec).build(&request).await
    }

    /// Nothing is left of a build: no entry, no folder, no file that was made.
    fn ensure_empty(&self) {
        assert!(!self.path("a.txt").exists());
        assert!(self.templates.abandoned().unwrap().is_empty());
        let folders = fs::read_dir(self.path("data/builds")).map_or(0, Iterator::count);
        assert_eq!(folders, 0, "a build's folder is left");
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_is_deleted() {
    // A folder of that name is in the way.
    let bench = Bench::new(&format!("for it in $data/builds/*; do mkdir $it/made.json; done\n{MADE}"));
    let told = causes(&bench.build().await.unwrap_err());
    assert!(told.contains("made.json") && told.contains("a.txt"), "{told}");
    bench.ensure_empty();
}

#[tokio::test]
async fn an_edit_during_the_build_is_noticed() {
    let bench = Bench::new(&format!("{MADE}\necho '# edited' >>it.pkr.hcl"));
    let told = causes(&bench.build().await.unwrap_err());
    for words in ["was changed after the plan", "is deleted", "a.txt"] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    bench.ensure_empty();
    assert!(bench.templates.images(None).list().await.unwrap().is_empty());
}

/// Packer is asked to stop when it has just made all, and ends as if nobody had asked.
#[tokio::test]
async fn what_a_cancelled_packer_made_is_deleted() {
    let bench = Bench::new(&format!(
        "trap '' TERM INT\ntouch building\nwhile ! [ -e stop ]; do sleep 0.1; done\n{MADE}"
    ));
    let (building, stop, cancel) = (bench.path("building"), bench.path("stop"), bench.cancel.clone());
    let stopping = async {
        while !building.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.cancel();
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::write(stop, "").unwrap();
    };
    let (built, ()) = tokio::join!(bench.build(), stopping);
    let told = causes(&built.unwrap_err());
    assert!(told.contains("cancelled") && told.contains("a.txt"), "{told}");
    bench.ensure_empty();
}

/// A folder in the place of an entry cannot be removed as a file.
#[tokio::test]
async fn a_finished_image_is_handed_on_whatever_becomes_of_its_entry() {
    let bench =
        Bench::new(&format!("for it in $data/journal/*.json; do mv $it $it.was; mkdir $it; done\n{MADE}"));
    let Built::Fresh(image) = bench.build().await.unwrap() else { panic!("nobody else builds") };
    assert!(bench.path("a.txt").exists());
    let entry = bench.path(&format!("data/journal/{}.json", image.id));
    fs::remove_dir(&entry).unwrap();
    fs::rename(entry.with_extension("json.was"), &entry).unwrap();
    let record = bench.templates.abandoned().unwrap().remove(0);
    let settled = bench.templates.settle(record, false, &bench.cancel).await.unwrap();
    assert_eq!(settled, Settled::default());
    assert!(bench.path("a.txt").exists() && bench.templates.abandoned().unwrap().is_empty());
    let images = bench.templates.images(None);
    assert_eq!(images.holders(&image.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_build_that_cannot_be_written_down_leaves_no_folder() {
    let bench = Bench::new(MADE);
    fs::create_dir(bench.path("data")).unwrap();
    fs::write(bench.path("data/journal"), "in the way").unwrap();
    bench.build().await.unwrap_err();
    assert!(!bench.path("data/builds").exists() && !bench.path("a.txt").exists());
}
