//! `sindri_image` on AWS: images that are there already, imported and adopted.

use acceptance_tests::{Host, Workspace, each_cli};
use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::aws_image::{HOME, IMAGE, aws, built, described, nothing_left, register, scenario, spread, wrote};

#[test]
fn an_imported_image_stays_as_it_is() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = built(&moto, &workspace)?;
        let mut variables = aws(spread());
        variables["tags"] = json!({ "team": "a" });
        variables["channels"] = json!(["production"]);
        variables["description"] = json!("what it is");
        workspace.variables(&variables)?;
        workspace.apply()?;
        workspace.forget(IMAGE)?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        moto.forget_requests()?;
        let plan = workspace.plan()?;
        assert_eq!(plan.action(IMAGE), "update", "{plan}");
        workspace.apply()?;
        ensure!(wrote(&moto)?.is_empty(), "recording inputs changed something: {:?}", moto.requests()?);
        workspace.converged()?;
        let image = workspace.resource(IMAGE)?;
        assert_eq!((&image["image_id"], &image["origin"]), (&json!(id), &json!("imported")));

        for (wrong, why) in [
            ("aws/us-west-2/ami-0123456789abcdef0".to_owned(), "there is no image"),
            (format!("aws/{id}"), "not what can be imported"),
        ] {
            workspace.forget(IMAGE)?;
            let refused = workspace.import(IMAGE, &wrong)?;
            let said = format!("{} {}", refused.stdout, refused.stderr).to_lowercase();
            let flat = said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
            ensure!(!refused.success && flat.contains(why), "{wrong}: {refused}");
            workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        }
        // The claim on it may be that of a state that lives.
        let held = workspace.destroy()?;
        ensure!(held.warnings().iter().any(|one| one.mentions("imported and has no claim")), "{held}");
        let told = described(&moto, HOME, &id)?;
        let (_, rest) = told.split_once("sindri_holder_").context("the claim is gone")?;
        let claim = format!("sindri_holder_{}", rest.split('<').next().unwrap_or_default());
        moto.ec2("DeleteTags", &[("ResourceId.1", id.as_str()), ("Tag.1.Key", claim.as_str())])?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{id}"))?.succeeds()?;
        workspace.destroy()?;
        nothing_left(&moto)?;

        // An image that nobody built with this provider is managed, and never deleted.
        let foreign = register(&moto, "foreign", &[("team", "a")])?;
        workspace.import(IMAGE, &format!("aws/{HOME}/{foreign}"))?.succeeds()?;
        workspace.variables(&json!({ "tags": { "team": "a" } }))?;
        assert_eq!(workspace.plan()?.action(IMAGE), "update");
        workspace.apply()?;
        workspace.converged()?;
        let errors = workspace.run(&["destroy", "-json", "-auto-approve"])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("sindri_key")), "{errors:?}");
        assert_eq!(moto.inventory()?["images"], [foreign.as_str()]);
        workspace.forget(IMAGE)
    })
}

/// A configuration that adopts images by their ids.
pub(crate) fn adopting(workspace: &Workspace, ids: &[String], more: &str) -> Result<()> {
    let ids = json!(ids);
    workspace.write(
        "main.tf",
        &format!(
            "terraform {{\n  required_providers {{ sindri = {{ source = \"sindri/sindri\" }} }}\n}}\nresource \"sindri_image\" \"it\" {{\n  for_each          = toset({ids})\n  existing_image_id = each.key\n  aws               = {{ {more} }}\n}}\n"
        ),
    )
}

#[test]
fn an_adopted_image_is_left_as_it_is() -> Result<()> {
    each_cli(|cli| {
        let host = Host::new()?;
        let (moto, workspace) = scenario(&host, cli)?;
        let id = register(&moto, "theirs", &[("team", "a")])?;
        adopting(&workspace, std::slice::from_ref(&id), "")?;
        workspace.apply()?;
        workspace.converged()?;
        let image = workspace.resource(&format!("sindri_image.it[{id:?}]"))?;
        assert_eq!((&image["origin"], &image["region"]), (&json!("existing"), &json!(HOME)));
        adopting(&workspace, std::slice::from_ref(&id), "region = \"eu-central-1\"")?;
        let errors = workspace.apply_with(&[])?.fails()?;
        ensure!(errors.iter().any(|one| one.mentions("there is no image")), "{errors:?}");
        adopting(&workspace, std::slice::from_ref(&id), "deprecate_after = \"1h\"")?;
        let errors = workspace.plan_fails()?;
        ensure!(
            errors.iter().any(|one| one.mentions("Conflicting") && one.mentions("aws.deprecate_after")),
            "{errors:?}"
        );
        workspace.destroy()?;
        assert_eq!(moto.inventory()?["images"], [id.as_str()]);
        ensure!(!described(&moto, HOME, &id)?.contains("sindri"), "it was touched");
        Ok(())
    })
}
