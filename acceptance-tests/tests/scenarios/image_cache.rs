//! When an image is built and when one that is there is used: the cache key, holders, replacement, age.

use std::fs::{self, File};
use std::thread;

use acceptance_tests::{Cli, Diagnostic, Host, Workspace, each_cli, either_cli};
use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use serde_json::json;

const IMAGE: &str = "sindri_image.it";

#[test]
fn two_workspaces_share_one_image_until_the_last_lets_go() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (first, second) = (host.blank_image(cli)?, host.blank_image(cli)?);
        let labels = json!({ "description": "theirs", "channels": ["production"], "tags": { "team": "a" } });
        first.variables(&labels)?;
        first.apply()?;
        let id = first.text(IMAGE, "image_id")?;

        let plan = second.plan()?;
        let change = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(change.after["image_id"], id, "a hit is not planned:\n{plan}");
        assert_eq!(change.after["origin"], "cached");
        second.apply()?;
        second.converged()?;
        assert_eq!(second.text(IMAGE, "image_id")?, id);
        assert_eq!(host.inventory()?.ids("images").len(), 1);
        second.variables(&json!({ "channels": ["staging"] }))?;
        second.apply()?;
        second.converged()?;
        first.converged().context("labels that others put on a shared image are none of ours")?;

        first.destroy()?;
        assert_eq!(host.inventory()?.ids("images"), [id.as_str()]);
        second.converged()?;
        gone_after_the_plan(&host, cli, &id)?;
        assert_eq!(second.plan()?.action(IMAGE), "create");
        second.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

/// A saved plan shows an image that somebody deletes before it is applied: the host, which plans again, tells.
fn gone_after_the_plan(host: &Host, cli: Cli, id: &str) -> Result<()> {
    let third = host.blank_image(cli)?;
    let plan = third.plan()?;
    assert_eq!(plan.change(IMAGE).context("nothing planned")?.after["image_id"], id, "{plan}");
    fs::remove_dir_all(host.data_dir().join("images").join(id))?;
    let errors = third.apply_plan()?.fails()?;
    ensure!(errors.iter().all(|error| error.mentions("inconsistent final plan")), "{errors:?}");
    ensure!(third.state(IMAGE)?.is_none(), "an image that is gone is in state");
    assert_eq!(host.inventory()?.ids("images"), Vec::<String>::new(), "another is built than was planned");
    Ok(())
}

#[test]
fn who_holds_the_store_is_waited_for_as_long_as_timeouts_say() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let (first, second) = (host.blank_image(cli)?, host.blank_image(cli)?);
        first.apply()?;
        let lock = File::open(host.data_dir().join("store.lock")).context("opening the store's lock")?;
        let limits = json!({ "create": "2s", "update": "2s", "delete": "2s" });
        let blocked = |workspace: &Workspace, arguments: &[&str], limit: &str| -> Result<()> {
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            let failed = workspace.run(&[arguments, &["-auto-approve", "-json"]].concat())?.fails();
            flock(&lock, FlockOperation::Unlock)?;
            let (errors, us) = (failed?, format!("process {}", std::process::id()));
            let told = |error: &Diagnostic| {
                error.mentions(limit) && error.mentions(&us) && error.mentions("holds the lock")
            };
            ensure!(errors.iter().any(told), "{errors:?}");
            Ok(())
        };
        second.variables(&json!({ "timeouts": limits }))?;
        blocked(&second, &["apply"], "timeouts.create")?;
        second.apply()?;
        second.variables(&json!({ "timeouts": limits, "description": "other" }))?;
        blocked(&second, &["apply"], "timeouts.update")?;
        second.apply()?;
        second.converged()?;
        blocked(&second, &["destroy"], "timeouts.delete")?;
        second.destroy()?;
        first.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn ignored_tags_are_somebody_elses() -> Result<()> {
    either_cli(|cli| {
        let host = Host::new()?;
        let (ours, theirs) = (host.blank_image(cli)?, host.blank_image(cli)?);
        let tags = |team: &str, owner: &str, cost: &str| json!({ "tags": { "team": team, "owner": owner, "cost:a": cost } });
        ours.write("provider.tf", "provider \"sindri\" { ignore_tags = [\"owner\", \"cost:*\"] }\n")?;
        ours.variables(&tags("a", "a", "a"))?;
        ours.apply()?;
        ours.converged()?;
        assert_eq!(ours.resource(IMAGE)?["tags_all"], json!({ "team": "a" }), "ignored tags are shown");

        // An image that is shared gets the labels of each; whoever does not ignore them sees what there is.
        theirs.variables(&tags("a", "b", "b"))?;
        theirs.apply()?;
        theirs.converged()?;
        ours.converged().context("the drift of an ignored tag is looked at")?;
        ours.variables(&json!({ "tags": { "team": "a" } }))?;
        ours.apply()?;
        ours.converged()?;
        theirs.converged().context("an ignored tag was removed")?;
        ours.variables(&tags("a", "c", "c"))?;
        ours.apply()?;
        ours.converged()?;
        theirs.converged().context("an ignored tag was changed")?;
        ours.destroy()?;
        theirs.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn other_content_is_another_image_made_before_the_old_one_goes() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "image")?;
        workspace.apply()?;
        let first = workspace.text(IMAGE, "image_id")?;

        workspace.variables(&json!({ "marker": "two" }))?;
        let plan = workspace.plan()?;
        let change = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(change.actions, ["create", "delete"]);
        assert_eq!(change.replace_paths, [json!(["cache_key"])]);
        workspace.apply()?;
        workspace.converged()?;
        let second = workspace.text(IMAGE, "image_id")?;
        assert_ne!(first, second);
        assert_eq!(host.inventory()?.ids("images"), [second.as_str()]);

        // A build that fails costs nothing.
        workspace.variables(&json!({ "marker": "three; exit 7" }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        assert!(errors.iter().any(|error| error.mentions("7")), "{errors:?}");
        assert_eq!(host.inventory()?.ids("images"), [second]);

        workspace.variables(&json!({ "marker": "two", "triggers": { "repave": "1" } }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace", "a trigger");
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn taint_and_replace_do_not_find_the_object_being_replaced() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.variables(&json!({ "cache": false }))?;
        workspace.apply()?;
        let first = workspace.text(IMAGE, "image_id")?;
        workspace.apply_with(&["-replace", IMAGE])?.succeeds()?;
        let second = workspace.text(IMAGE, "image_id")?;
        assert_ne!(first, second, "without a cache, -replace builds");
        workspace.converged()?;

        workspace.run(&["taint", IMAGE])?.succeeds()?;
        assert_eq!(workspace.plan()?.action(IMAGE), "replace");
        workspace.apply()?;
        workspace.converged()?;
        let third = workspace.text(IMAGE, "image_id")?;
        assert_ne!(second, third);
        assert_eq!(host.inventory()?.ids("images"), [third]);

        // With a cache, too, what is being replaced must not be planned as its own successor.
        workspace.variables(&json!({ "cache": true }))?;
        workspace.apply()?;
        let plan = workspace.plan_with(&["-replace", IMAGE])?;
        let change = plan.change(IMAGE).context("nothing planned")?;
        assert_eq!(change.after_unknown["image_id"], true, "{plan}");
        workspace.apply_with(&["-replace", IMAGE])?.succeeds()?;
        workspace.converged()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn an_image_past_its_age_is_replaced_and_no_hit() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.blank_image(cli)?;
        workspace.variables(&json!({ "max_age": "720h" }))?;
        workspace.apply()?;
        workspace.converged()?;
        let first = workspace.text(IMAGE, "image_id")?;

        thread::sleep(std::time::Duration::from_secs(2));
        workspace.variables(&json!({ "max_age": "1s" }))?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "replace", "{plan}");
        workspace.apply()?;
        assert_ne!(workspace.text(IMAGE, "image_id")?, first);
        workspace.variables(&json!({ "max_age": "720h" }))?;
        workspace.apply()?;
        workspace.converged()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn an_image_of_another_host_is_no_reason_to_build() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let mut workspace = host.blank_image(cli)?;
        workspace.apply()?;
        let id = workspace.text(IMAGE, "image_id")?;
        let here = host.data_dir().parent().context("no folder for data")?.to_owned();

        workspace.env("XDG_DATA_HOME", host.path().join("of another host"));
        for outcome in
            [workspace.run(&["plan", "-json"])?, workspace.run(&["destroy", "-auto-approve", "-json"])?]
        {
            let errors = outcome.fails()?;
            assert!(errors.iter().any(|error| error.mentions("foreign_store = \"forget\"")), "{errors:?}");
        }
        workspace.write("provider.tf", "provider \"sindri\" { qemu = { foreign_store = \"forget\" } }\n")?;
        assert_eq!(workspace.plan()?.action(IMAGE), "create");
        workspace.destroy()?;

        workspace.env("XDG_DATA_HOME", here);
        assert_eq!(host.inventory()?.ids("images"), [id.as_str()], "what another host has is none of ours");
        workspace.import(IMAGE, &format!("qemu/{id}"))?.succeeds()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn eight_applies_at_once_build_one_image() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspaces = (0..8).map(|_| host.workspace(cli, "image")).collect::<Result<Vec<_>>>()?;
        let running = workspaces.iter().map(|one| one.start_apply()).collect::<Result<Vec<_>>>()?;
        for one in running {
            one.wait(std::time::Duration::from_secs(600))?.succeeds()?;
        }
        assert_eq!(host.inventory()?.ids("images").len(), 1);
        let origins = workspaces.iter().map(|one| one.text(IMAGE, "origin")).collect::<Result<Vec<_>>>()?;
        assert_eq!(origins.iter().filter(|origin| *origin == "built").count(), 1, "{origins:?}");
        for workspace in &workspaces {
            workspace.converged()?;
        }
        for (gone, workspace) in workspaces.iter().enumerate() {
            workspace.destroy()?;
            let left = host.inventory()?.ids("images").len();
            ensure!(left == usize::from(gone < 7), "{left} images after {} of 8 let go", gone + 1);
        }
        host.inventory()?.ensure_empty()
    })
}
