//! Data sources and functions.

use acceptance_tests::{Host, each_cli};
use anyhow::{Context, Result};
use serde_json::json;

#[test]
fn promoted_images_are_found_by_channel_and_tags() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "qemu-lookup")?;
        workspace.apply()?;
        workspace.converged()?;
        let id = workspace.text("sindri_image.app", "image_id")?;
        assert_eq!(workspace.output("promoted")?, json!(id));
        assert_eq!(workspace.output("names")?, json!([workspace.text("sindri_image.app", "image_name")?]));
        let found = workspace.resource("data.sindri_image.production")?;
        assert_eq!(found["image"]["state"], "available");
        assert_eq!(found["image"]["channels"], json!(["production"]));

        workspace.variables(&json!({ "channels": ["development"] }))?;
        let errors = workspace.apply_with(&[])?.fails()?;
        assert!(errors.iter().any(|error| error.mentions("no such image")), "{errors:?}");
        // A data source is read before a destroy, too.
        workspace.variables(&json!({}))?;
        workspace.apply()?;
        workspace.destroy()?;
        host.inventory()?.ensure_empty()
    })
}

#[test]
fn prerequisites_tell_what_is_there_and_what_is_missing() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let mut workspace = host.workspace(cli, "empty")?;
        workspace.write(
            "main.tf",
            "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\ndata \"sindri_prerequisites\" \"here\" { cloud = \"qemu\" }\n",
        )?;
        workspace.apply()?;
        let here = workspace.resource("data.sindri_prerequisites.here")?;
        let all = here["prerequisites"].as_array().context("no list")?;
        for name in ["qemu", "mmdebstrap", "mke2fs"] {
            let one = all
                .iter()
                .find(|one| one["name"].as_str().is_some_and(|known| known.to_lowercase().contains(name)));
            let one = one.with_context(|| format!("{name} is not among {all:?}"))?;
            assert_eq!(one["state"], "ok", "{one}");
            assert!(one["version"].as_str().is_some_and(|version| version.contains('.')), "{one}");
        }

        let nothing = host.path().join("nothing");
        std::fs::create_dir(&nothing)?;
        workspace.env("PATH", &nothing);
        workspace.apply()?;
        let here = workspace.resource("data.sindri_prerequisites.here")?;
        assert_eq!(here["satisfied"], false);
        let all = here["prerequisites"].as_array().context("no list")?;
        let missing: Vec<_> = all.iter().filter(|one| one["state"] == "missing").collect();
        assert!(missing.len() >= 3, "{all:?}");
        assert!(
            missing.iter().all(|one| one["hint"].as_str().is_some_and(|hint| !hint.is_empty())),
            "{missing:?}"
        );
        Ok(())
    })
}

#[test]
fn a_function_names_the_argument_that_is_wrong() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let workspace = host.workspace(cli, "empty")?;
        workspace.write(
            "main.tf",
            "terraform {\n  required_providers { sindri = { source = \"sindri/sindri\" } }\n}\noutput \"config\" { value = provider::sindri::ssh_config({ name = \"x\" }) }\n",
        )?;
        let errors = workspace.plan_fails()?;
        assert!(errors.iter().any(|error| error.mentions("ssh_host")), "{errors:?}");
        assert!(errors[0].code.contains("provider::sindri::ssh_config"), "{}", errors[0]);
        Ok(())
    })
}
