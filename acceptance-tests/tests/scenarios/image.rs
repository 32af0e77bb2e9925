//! `sindri_image` from nothing: what is built, that it converges, drift, changes in place, import.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use acceptance_tests::disk::{qemu_img_info, sha256};
use acceptance_tests::{Diagnostic, Host, Workspace, each_cli, either_cli};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

const IMAGE: &str = "sindri_image.it";

fn disk(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.text(IMAGE, "path")?.into())
}

#[test]
fn an_image_lives_its_whole_life() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "image")?;
        let plan = workspace.plan()?;
        let change = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(change.action(), "create");
        let key = change.after["cache_key"].as_str().context("the cache key is not known at plan")?;
        assert!(key.len() == 63 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        for unknown in ["image_id", "path", "sha256", "log_path", "created_at"] {
            assert_eq!(change.after_unknown[unknown], true, "{unknown} is known before there is an image");
        }

        workspace.apply()?;
        workspace.converged()?;
        let image = workspace.resource(IMAGE)?;
        assert_eq!(image["cache_key"], key);
        assert_eq!(image["origin"], "built");
        assert_eq!(image["cloud"], "qemu");
        assert_eq!(image["id"], image["image_id"]);
        assert_eq!(image["sha256"], sha256(&disk(&workspace)?)?);
        assert_eq!(image["size_bytes"], fs::metadata(disk(&workspace)?)?.len());
        let name = image["image_name"].as_str().unwrap_or_default();
        assert!(name.starts_with(&format!("it-{}", &key[..12])), "{name}");
        let log = fs::read_to_string(image["log_path"].as_str().context("no log")?)?;
        assert!(!log.is_empty());
        let info = qemu_img_info(&disk(&workspace)?)?;
        assert_eq!(info["format"], "qcow2");
        assert_eq!(info["virtual-size"], 4_u64 << 30);
        assert!(info["backing-filename"].is_null(), "{info}");
        let inventory = host.inventory()?;
        assert_eq!(inventory.ids("images"), [image["image_id"].as_str().unwrap_or_default()]);
        assert_eq!(inventory.processes, Vec::<String>::new());

        let id = format!("qemu/{}", workspace.text(IMAGE, "image_id")?);
        workspace.import_again(IMAGE, &id)?;
        a_newer_base_is_told(&workspace)?;

        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// The key is of the base as it is asked for. Here the image is said to be an older one than it is.
fn a_newer_base_is_told(workspace: &Workspace) -> Result<()> {
    let (metadata, base) =
        (disk(workspace)?.with_file_name("metadata.json"), workspace.text(IMAGE, "resolved_base")?);
    let (whole, words) = (fs::read_to_string(&metadata)?, base.rsplit_once(' ').context("no date")?.0);
    let old = format!("{words} 2020-01-01");
    let warnings = || Ok::<_, anyhow::Error>(workspace.run(&["plan", "-json"])?.succeeds()?.warnings());
    assert_eq!(warnings()?.len(), 0);
    fs::write(&metadata, whole.replace(&base, &old))?;
    let told = warnings()?;
    let names = |it: &Diagnostic| [&old, &base, "max_age"].iter().all(|word| it.mentions(word));
    ensure!(!told.is_empty() && told.iter().all(names), "{told:?}");
    workspace.converged()?;
    fs::write(&metadata, whole)?;
    workspace.converged()
}

#[test]
fn every_format_is_what_it_says() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        for format in ["raw", "vmdk"] {
            workspace.variables(&json!({ "format": format }))?;
            workspace.apply()?;
            workspace.converged()?;
            let info = qemu_img_info(&disk(&workspace)?)?;
            assert_eq!(info["format"], format);
            assert_eq!(info["virtual-size"], 4_u64 << 30);
            assert_eq!(workspace.text(IMAGE, "format")?, format);
            assert_eq!(host.inventory()?.ids("images").len(), 1, "the image of the other format was left");
        }
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn every_kind_of_step_does_its_work_and_no_secret_stays() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-steps")?;
        workspace.apply()?;
        workspace.converged()?;
        let secret = "an example's token";
        assert!(!workspace.state_contains(secret)?, "the secret is in the state");
        let log = fs::read_to_string(workspace.text("sindri_image.steps", "log_path")?)?;
        assert!(!log.contains(secret), "the secret is in the log");
        let id = workspace.text("sindri_image.steps", "image_id")?;
        workspace.import_again("sindri_image.steps", &format!("qemu/{id}"))?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_lost_or_altered_disk_is_noticed_and_a_touched_one_is_not() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.apply()?;
        let first = disk(&workspace)?;

        let copy = first.with_extension("copy");
        fs::copy(&first, &copy)?;
        fs::rename(&copy, &first)?;
        ensure!(workspace.plan()?.is_empty(), "the same content in another inode passed for drift");

        fs::OpenOptions::new().append(true).open(&first)?.set_len(fs::metadata(&first)?.len() + 512)?;
        let plan = workspace.plan()?;
        let change = plan.change(IMAGE).context("an altered disk was not noticed")?;
        assert_eq!(change.action(), "replace", "{plan}");
        assert!(change.changed().contains(&"sha256".to_owned()), "{plan}");
        workspace.apply()?;
        workspace.converged()?;

        fs::remove_dir_all(disk(&workspace)?.parent().context("a disk without a folder")?)?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "create", "a lost image:\n{plan}");
        workspace.apply()?;
        workspace.converged()?;

        fs::remove_dir_all(disk(&workspace)?.parent().context("a disk without a folder")?)?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn damaged_metadata_is_set_aside_and_said_so() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.apply()?;
        let metadata = disk(&workspace)?.with_file_name("metadata.json");
        fs::write(&metadata, "{ \"not\": ")?;
        let outcome = workspace.apply()?;
        let told = outcome.warnings().iter().any(|warning| warning.mentions("damaged"));
        ensure!(told, "nothing was said about the damage: {outcome}");
        workspace.converged()?;
        workspace.destroy()?;
        // What was set aside is the user's to look at and to remove.
        let inventory = host.inventory()?;
        assert_eq!(inventory.ids("damaged").len(), 1, "{inventory}");
        fs::remove_dir_all(host.data_dir().join("damaged"))?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn what_is_not_content_changes_in_place() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.apply()?;
        let (id, disk) = (workspace.text(IMAGE, "image_id")?, disk(&workspace)?);
        let built = fs::metadata(&disk)?.modified()?;
        for variables in [
            json!({ "tags": { "team": "one" } }),
            json!({ "tags": { "team": "two" }, "channels": ["development"] }),
            json!({ "channels": ["production"], "description": "promoted" }),
            json!({ "retain_on_destroy": true }),
            json!({ "on_error": "keep" }),
            json!({}),
        ] {
            workspace.variables(&variables)?;
            assert_eq!(workspace.plan()?.action(IMAGE), "update", "{variables}");
            workspace.apply()?;
            workspace.converged().with_context(|| variables.to_string())?;
            assert_eq!(workspace.text(IMAGE, "image_id")?, id, "{variables}");
        }
        assert_eq!(fs::metadata(&disk)?.modified()?, built, "the disk was touched");

        // What an import restores is the configuration as it was changed last.
        let timeouts = json!({ "create": "50m", "delete": "9m" });
        workspace
            .variables(&json!({ "max_age": "9000h", "tags": { "team": "three" }, "timeouts": timeouts }))?;
        workspace.apply()?;
        workspace.import_again(IMAGE, &format!("qemu/{id}"))?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn a_retained_image_outlives_its_resource() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.variables(&json!({ "retain_on_destroy": true }))?;
        workspace.apply()?;
        let (id, disk) = (workspace.text(IMAGE, "image_id")?, disk(&workspace)?);
        workspace.destroy()?;
        ensure!(disk.exists(), "the image is gone");
        assert_eq!(host.inventory()?.ids("images"), [id.as_str()]);

        workspace.apply()?;
        assert_eq!(workspace.text(IMAGE, "origin")?, "cached");
        assert_eq!(workspace.text(IMAGE, "image_id")?, id);
        workspace.variables(&json!({}))?;
        workspace.apply()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn prune_removes_old_images_that_nobody_holds() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let (first, others) = (host.workspace(cli, "image")?, host.blank_image(cli)?);
        let mut retained = Vec::new();
        for workspace in [&first, &others] {
            workspace.variables(&json!({ "retain_on_destroy": true }))?;
            workspace.apply()?;
            retained.push(workspace.text(IMAGE, "image_id")?);
            workspace.destroy()?;
        }
        let workspace = others;
        workspace.variables(&json!({ "triggers": { "another": "image" } }))?;
        workspace.apply()?;
        let [one, two] = retained.as_slice() else { bail!("{retained:?}") };
        let held = workspace.text(IMAGE, "image_id")?;
        let left = || -> Result<_> { Ok(BTreeSet::from_iter(host.inventory()?.ids("images"))) };
        let all = BTreeSet::from([one, two, &held].map(String::clone));

        let told = prune(&host, &["--keep", "1", "--dry-run"])?;
        ensure!(told.starts_with(&format!("would remove {one} (it-")), "{told}");
        ensure!(!told.contains(two) && !told.contains(&held), "{told}");
        assert_eq!(left()?, all, "that was a dry run");
        let told = prune(&host, &["--keep", "1"])?;
        let freed = told.lines().last().and_then(|line| line.strip_prefix("freed ")?.strip_suffix(" MiB"));
        let freed: u64 = freed.with_context(|| told.clone())?.parse()?;
        ensure!(told.starts_with(&format!("removed {one} (it-")) && freed > 100, "{told}");
        assert_eq!(left()?, BTreeSet::from([two, &held].map(String::clone)));

        prune(&host, &["--keep", "0"])?;
        assert_eq!(left()?, BTreeSet::from([held]));
        assert_eq!(prune(&host, &["--keep", "0"])?, "nothing to remove\n");
        workspace.converged()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// By hand.
fn prune(host: &Host, arguments: &[&str]) -> Result<String> {
    let data_dir = host.data_dir();
    let output =
        host.provider(&[&["prune", "--data-dir", &data_dir.to_string_lossy()], arguments].concat())?;
    ensure!(output.status.success(), "prune: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Somebody else's image, which this configuration only uses.
const ADOPTED: &str = r#"
terraform {
  required_providers {
    sindri = { source = "sindri/sindri" }
  }
}
variable "suite" {}
variable "id" {}
variable "memory_mb" {}
resource "sindri_image" "it" {
  existing_image_id = var.id
  qemu              = { memory_mb = var.memory_mb }
}
"#;

#[test]
fn an_adopted_image_changes_in_place_and_is_left_alone() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let owner = host.blank_image(cli)?;
        owner.variables(&json!({ "tags": { "team": "a" } }))?;
        owner.apply()?;
        let id = owner.text(IMAGE, "image_id")?;
        let user = host.workspace(cli, "empty")?;
        user.write("main.tf", ADOPTED)?;
        for memory_mb in [1024, 2048] {
            user.variables(&json!({ "id": id, "memory_mb": memory_mb }))?;
            user.apply()?;
            user.converged()?;
            assert_eq!(user.resource(IMAGE)?["tags_all"], json!({ "team": "a" }));
        }
        user.destroy()?;
        owner.converged()?;
        owner.destroy()?;
        host.inventory()?.ensure_empty()
    })
}
