//! What is shown of images, and what is told of configurations. Nothing here runs a program: the version is given.

use std::path::Path;

use serde_json::{Value as Json, json};
use tfplugin::value::json;
use tfplugin::{DynDataSource, Provider as _, Schema};

use super::*;
use crate::provider::{Provider, ProviderModel};

/// A provider with folders of its own, and no Packer.
async fn provider(dir: &Path) -> Arc<dyn DynDataSource> {
    let config = json!({
        "data_dir": dir.join("data"),
        "default_tags": { "team": "a" },
        "packer": { "binary": dir.join("none") },
        "aws": { "region": "us-west-2", "endpoint_url": "http://127.0.0.1:1" },
    });
    let provider = Provider::default();
    let config = json::decode(Schema::of::<ProviderModel>(0).ty(), config.to_string().as_bytes()).unwrap();
    provider.configure(tfplugin::model::decode(&config).unwrap(), "test").await.unwrap();
    provider.data_sources().into_iter().find(|source| source.name() == "template").unwrap()
}

fn decoded(config: &Json) -> tfplugin::Value {
    json::decode(Schema::of::<TemplateModel>(0).ty(), config.to_string().as_bytes()).unwrap()
}

/// All that is said about a configuration before it is read, a line each.
async fn told(config: &Json) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let mut diags = Diagnostics::new();
    let value = decoded(config);
    tfplugin::schema::check_config(&TemplateModel::attributes(), &value, true, &mut diags);
    provider(dir.path()).await.validate(&value, &mut diags).await;
    diags.iter().map(ToString::to_string).collect()
}

async fn read(config: &Json) -> Result<Json, Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let mut diags = Diagnostics::new();
    let read = provider(dir.path()).await.read(&decoded(config), CancellationToken::new(), &mut diags).await;
    assert!(!dir.path().join("data").exists(), "a look leaves nothing");
    read.map(|value| json::to_json(&value)).map_err(|all| all.iter().map(ToString::to_string).collect())
}

/// A shown image in a form for people.
fn page(shown: &Json) -> String {
    let mut page = format!(
        "Packer {}, key {}, hidden {}\n{}",
        shown["packer_version"],
        shown["cache_key"],
        shown["hidden_variables"],
        shown["variables"].as_str().unwrap_or("no variables\n")
    );
    for script in shown["scripts"].as_array().unwrap() {
        let text = |name: &str| script[name].as_str().unwrap_or("-");
        page += &format!(
            "\n=== {} | {} | {} {} | {}\n{}",
            text("name"),
            text("kind"),
            text("belongs_to"),
            script["step"],
            text("file"),
            script["content"].as_str().map(beginning).unwrap_or_default()
        );
    }
    page
}

fn aws() -> Json {
    json!({
        "name_prefix": "web",
        "packer_version": "1.11.2",
        "aws": {},
        "tags": { "role": "web" },
        "environment": { "PLAIN": "canary" },
        "environment_wo_names": ["TOKEN"],
        "environment_wo_version": 1,
        "provision": [
            { "inline": ["echo \"$TOKEN\""], "environment": { "ONE": "canary" }, "timeout": "20m" },
            { "upload": { "source": "Cargo.toml", "destination": "/etc/x" } },
            { "reboot": true },
        ],
        "verify": [{ "name": "it works", "command": "true" }],
    })
}

/// The first lines of a script, and of them what fits: all of it is compared elsewhere.
fn beginning(text: &str) -> String {
    let short = |line: &str| line.chars().take(240).collect::<String>();
    text.lines().take(4).map(|line| short(line) + "\n").collect()
}

#[tokio::test]
async fn an_image_on_aws() {
    let shown = read(&aws()).await.unwrap();
    // The key is of the uploaded file, too, which changes with every dependency.
    let key = shown["cache_key"].as_str().unwrap();
    let page = page(&shown).replace(key, "KEY").replace(&key[..12], "KEY");
    assert!(!page.contains("canary"), "{page}");
    insta::assert_snapshot!(page);
    let hcl = shown["hcl"].as_str().unwrap();
    assert!(hcl.contains("required_plugins") && hcl.contains("metadata_options"), "{hcl}");
}

#[tokio::test]
async fn checks_of_a_machine_from_the_image_are_none_of_packers() {
    let mut config = aws();
    config["aws"] = json!({ "verify_boot": true });
    let shown = read(&config).await.unwrap();
    let scripts = shown["scripts"].as_array().unwrap();
    let checks: Vec<_> = scripts.iter().filter(|script| script["belongs_to"] == "verify").collect();
    assert_eq!(checks.len(), 1, "{checks:?}");
    assert_eq!(checks[0], scripts.last().unwrap());
    assert_eq!((&checks[0]["file"], &checks[0]["content"]), (&Json::Null, &json!("true")));
}

#[tokio::test]
async fn scripts_of_the_native_engine() {
    let base = json!({ "image": "Cargo.toml" });
    let config = json!({
        "name_prefix": "dev",
        "qemu": { "base": base },
        "environment": { "PLAIN": "canary" },
        "provision": [{ "content": "#!/usr/bin/python3\n" }, { "reboot": true }],
        "security": { "remove_ssh_host_keys": false },
        "verify": [{ "name": "it works", "command": "true" }],
    });
    let shown = read(&config).await.unwrap();
    assert_eq!((&shown["hcl"], &shown["variables"]), (&Json::Null, &Json::Null));
    let rows = shown["scripts"].as_array().unwrap().iter();
    let rows = rows.map(|row| format!("{} {} {}", row["name"], row["belongs_to"], row["step"]));
    insta::assert_snapshot!(rows.collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn the_versions_that_it_can_be_for() {
    for (version, words) in [
        ("1.6.6", Ok(false)),
        ("1.10.0", Ok(true)),
        ("1.6.5", Err("packer_version: Template not shown: Such an image needs Packer 1.6.6 or later")),
    ] {
        let mut config = aws();
        config["packer_version"] = version.into();
        match (read(&config).await, words) {
            (Ok(shown), Ok(has)) => {
                let hcl = shown["hcl"].as_str().unwrap();
                assert_eq!(hcl.contains("metadata_options"), has, "{version}: {hcl}");
            }
            (Err(told), Err(words)) => assert!(told[0].contains(words), "{told:?}"),
            (other, _) => panic!("{version}: {other:?}"),
        }
    }
    // It would have to be found.
    for (name, value) in [("packer_version", Json::Null), ("validate", true.into())] {
        let mut config = aws();
        config[name] = value;
        let told = read(&config).await.unwrap_err();
        assert!(told[0].contains("not installed") || told[0].contains("could not"), "{told:?}");
    }
}

#[tokio::test]
async fn what_only_a_build_needs_is_not_looked_for() {
    let mut config = aws();
    config["aws"]["ssh_bastion_host"] = "bastion".into();
    config["aws"]["ssh_bastion_private_key_path"] = "/nowhere/key".into();
    let shown = read(&config).await.unwrap();
    assert!(shown["variables"].as_str().unwrap().contains("/nowhere/key"), "{}", shown["variables"]);
    config["validate"] = true.into();
    let told = read(&config).await.unwrap_err();
    assert!(told.iter().any(|one| one.contains("/nowhere/key")), "{told:?}");
}

#[tokio::test]
async fn the_key_is_that_of_the_image() {
    let shown = read(&aws()).await.unwrap();
    let mut image = aws();
    let config = image.as_object_mut().unwrap();
    config.retain(|name, _| !["packer_version", "environment_wo_names"].contains(&name.as_str()));
    config.insert("environment_wo".to_owned(), json!({ "TOKEN": "canary" }));
    let schema = Schema::of::<crate::resources::image::model::ImageModel>(0);
    let value = json::decode(schema.ty(), image.to_string().as_bytes()).unwrap();
    let image: crate::resources::image::model::ImageModel = tfplugin::model::decode(&value).unwrap();
    let wanted = image.request(&image, "us-west-2", &mut Diagnostics::new()).unwrap();
    assert_eq!(shown["cache_key"], wanted.key.as_str());
}

#[tokio::test]
async fn every_mistake_is_told_on_its_attribute() {
    let with = |name: &str, value: Json| {
        let mut config = aws();
        config[name] = value;
        config
    };
    let native = |name: &str, value: Json| {
        let base = json!({ "bootstrap": { "suite": "bookworm" } });
        let mut config = json!({ "name_prefix": "dev", "qemu": { "base": base } });
        config[name] = value;
        config
    };
    assert_eq!(told(&aws()).await, Vec::<String>::new());
    for (config, words) in [
        (with("aws", Json::Null), "No backend"),
        (with("qemu", json!({ "base": { "image": "x" } })), "Two backends"),
        (with("packer_version", "new".into()), "packer_version: "),
        (with("environment_wo_names", json!(["a b"])), "environment_wo_names: "),
        (with("environment", json!({ "1": "x" })), "environment: Invalid variable"),
        (with("provision", json!([{}])), "provision[0]: Unclear provisioning step"),
        (with("on_error", "wait".into()), "on_error: "),
        (with("name_prefix", "a/b".into()), "name_prefix: "),
        (native("validate", true.into()), "validate: No template"),
        (native("packer_version", "1.6.6".into()), "packer_version: No template"),
    ] {
        let told = told(&config).await;
        assert!(told.len() == 1 && told[0].contains(words), "{words}: {told:?}");
    }
    let told = read(&with("provision", json!([{ "script": "/no/such" }]))).await.unwrap_err();
    assert!(told[0].contains("provision[0].script: Script cannot be read"), "{told:?}");
}

/// What another object gives is unknown when the host validates, and may turn out to be null.
#[tokio::test]
async fn what_is_unknown_is_no_mistake() {
    let tfplugin::Value::Object(entries) = decoded(&aws()) else { panic!("no object") };
    for name in entries.keys() {
        let mut entries = entries.clone();
        entries.insert(name.clone(), tfplugin::Value::Unknown);
        let dir = tempfile::tempdir().unwrap();
        let mut diags = Diagnostics::new();
        let value = tfplugin::Value::Object(entries);
        provider(dir.path()).await.validate(&value, &mut diags).await;
        assert!(
            !diags.has_errors(),
            "{name}: {:?}",
            diags.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
    }
}
