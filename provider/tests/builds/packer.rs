//! The Packer room against the real Packers. `tests/packer.rs` has one that misbehaves.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sindri::backends::template::{TemplateSpec, Templates};
use sindri::domain::cache_key::KeyInputs;
use sindri::domain::causes;
use sindri::domain::{BuildRequest, CacheKey, Holder, ImageBuilder, Labels};
use sindri::packer::{Folder, Job, Settings, Variables};
use sindri::process::{BuildLog, Limits, Redactor, Secret};
use tokio_util::sync::CancellationToken;

use crate::aws_build::{newer, tool};
use crate::support::image;

/// Those of this machine: Debian's on `PATH`, and the one that the tools script builds.
fn real() -> Vec<PathBuf> {
    let distribution = sindri::process::programs("packer").into_iter().next();
    distribution.into_iter().chain([tool("packer")]).collect()
}

/// Values that would be code in HCL, in Go's templates, or in a shell.
const HOSTILE: &str = "a ${var.other} %{ if true }x%{ endif } {{ .Path }} {{`x`}} {{{{ \" ' \\ \\n $(touch canary) `touch canary`\n# second line\té";
const SECRET: &str = "p@ss \"word\" {{x}}\nsecond line of it";

const TEMPLATE: &str = r#"variable "content" {
  type = string
}

variable "secret" {
  type      = string
  sensitive = true
}

source "file" "image" {
  content = "${var.content}|${var.secret}"
  target  = "result"
}

build {
  sources = ["source.file.image"]
}
"#;

#[tokio::test]
async fn a_real_packer_takes_hostile_values_as_they_are() {
    for program in real() {
        let dir = tempfile::tempdir().unwrap();
        let redactor = Redactor::new([&Secret::new(SECRET)]);
        let log = BuildLog::create(&dir.path().join("logs"), "t", "1", redactor).unwrap();
        let (runner, cancel) = (image::host().runner, CancellationToken::new());
        let settings = Settings { binary: Some(program.clone()), ..Settings::default() };
        let limits = Limits { cancel: cancel.clone(), timeout: Some(Duration::from_secs(20)) };
        let packer = settings.locate(&runner, &limits).await.unwrap();

        let folder = Folder::create(&dir.path().join("work")).unwrap();
        let mut variables = Variables::default();
        variables.set("content", HOSTILE);
        variables.set("secret", SECRET);
        folder.write(TEMPLATE, &variables).unwrap();
        let grace = Duration::from_secs(30);
        let job = Job {
            folder: &folder,
            cwd: dir.path(),
            runner: &runner,
            log: &log,
            cancel: &cancel,
            grace,
            keep: false,
            keep_output: false,
            then: None,
        };
        packer.validate(&job).await.unwrap();
        let report = packer.build(&job, |_, _| {}).await.unwrap();
        let file = report.single_artifact().unwrap().file(dir.path(), "result").unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), format!("{HOSTILE}|{SECRET}"), "{}", program.display());
        assert!(!dir.path().join("canary").exists());
    }
}

/// Packer finds them in their folder, and needs no network for that.
#[tokio::test]
async fn a_template_of_the_users_own_gets_its_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let required = r#"packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.8"
    }
  }
}
"#;
    let template = TEMPLATE.replace("${var.content}|${var.secret}", "made");
    let (_, template) = template.split_once("\nsource").unwrap();
    fs::write(dir.path().join("own.pkr.hcl"), format!("{required}source{template}")).unwrap();
    let plugins = tool("packer-plugin-amazon").parent().unwrap().join("plugins");
    let templates = Templates {
        data_dir: dir.path().join("data"),
        cache_dir: dir.path().join("cache"),
        runner: image::host().runner,
        packer: Settings { plugin_dir: Some(plugins), ..newer() },
        claims: Default::default(),
        keepers: Vec::new(),
    };
    let spec = TemplateSpec {
        template: dir.path().join("own.pkr.hcl"),
        directory: dir.path().to_owned(),
        on_error: "cleanup".into(),
        secrets_known: true,
        ..TemplateSpec::default()
    };
    let image = image::image(Vec::new());
    let key_inputs = KeyInputs { target: spec.key_inputs().unwrap(), ..KeyInputs::default() };
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
        cancel: CancellationToken::new(),
    };
    let built = Arc::new(templates).builder(spec).build(&request).await;
    built.unwrap_or_else(|error| panic!("{}", causes(&error)));
    let log = fs::read_to_string(dir.path().join("data/logs/latest-test.log")).unwrap();
    assert!(log.contains("Getting Packer's plugins"), "{log}");
    assert_eq!(fs::read_to_string(dir.path().join("result")).unwrap(), "made");
}
