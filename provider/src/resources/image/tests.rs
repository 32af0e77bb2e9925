//! What a user is told about a configuration, before anything is planned.

use tfplugin::value::json;
use tfplugin::{Diagnostics, Resource, Schema, Value};

use super::*;
use crate::resources::inputs;
use crate::resources::inputs::tests::unset_as_unknown;

/// All that is said about a configuration in JSON, a line each: path, summary, detail.
async fn told(config: &serde_json::Value) -> Vec<String> {
    let schema = Schema::of::<ImageModel>(0);
    told_of(&json::decode(schema.ty(), config.to_string().as_bytes()).unwrap()).await
}

async fn told_of(config: &Value) -> Vec<String> {
    let mut diags = Diagnostics::new();
    tfplugin::schema::check_config(&ImageModel::attributes(), config, true, &mut diags);
    let model: ImageModel = tfplugin::model::decode(config).unwrap();
    ImageResource::new(Arc::default()).validate(&model, &mut diags).await;
    diags.iter().map(ToString::to_string).collect()
}

fn bookworm() -> serde_json::Value {
    serde_json::json!({ "base": { "bootstrap": { "suite": "bookworm" } } })
}

#[tokio::test]
async fn a_good_configuration_is_not_commented() {
    let config = serde_json::json!({
        "name_prefix": "dev",
        "qemu": bookworm(),
        "environment": { "A": "1" },
        "provision": [
            { "inline": ["true"], "environment_wo": { "TOKEN": "x" }, "timeout": "20m" },
            { "script": "./setup.sh", "user": "app" },
            { "upload": { "source": "a", "destination": "/b", "mode": "0644", "owner": "app:app" } },
            { "reboot": true },
        ],
        "verify": [{ "name": "one", "command": "true" }],
        "max_age": "720h",
        "on_error": "keep",
    });
    assert_eq!(told(&config).await, Vec::<String>::new());
}

/// What another object gives is unknown when the host validates, and may turn out to be null.
#[tokio::test]
async fn what_is_unknown_is_no_mistake() {
    let config = serde_json::json!({
        "name_prefix": "dev",
        "qemu": bookworm(),
        "provision": [{ "inline": ["true"] }, { "upload": { "source": "a", "destination": "/b" } }, { "reboot": true }],
        "verify": [{ "name": "one", "command": "true" }],
        "existing_image_id": null,
    });
    let schema = Schema::of::<ImageModel>(0);
    let value = json::decode(schema.ty(), config.to_string().as_bytes()).unwrap();
    assert_eq!(told_of(&unset_as_unknown::<ImageModel>(&value)).await, Vec::<String>::new());
    let Value::Object(mut entries) = value else { panic!("no object") };
    for name in ["name_prefix", "qemu", "provision", "verify"] {
        let known = entries.insert(name.into(), Value::Unknown).unwrap();
        assert_eq!(told_of(&Value::Object(entries.clone())).await, Vec::<String>::new(), "{name}");
        entries.insert(name.into(), known);
    }
}

#[tokio::test]
async fn an_image_on_aws_may_have_unknown_parts() {
    let config = serde_json::json!({
        "name_prefix": "dev",
        "description": "what it is",
        "tags": { "team": "a" },
        "channels": ["production"],
        "aws": {
            "region": "us-west-2",
            "kms_key_id": "alias/images",
            "source_filter": { "name": "debian-12-amd64-*", "owners": ["136693071363"] },
            "ssh_username": "admin",
            "allowed_cidrs": ["203.0.113.7/32"],
            "ami_regions": ["eu-central-1"],
            "share": { "account_ids": ["123456789012"] },
            "deprecate_after": "2160h",
        },
    });
    assert_eq!(told(&config).await, Vec::<String>::new());
    let schema = Schema::of::<ImageModel>(0);
    let value = json::decode(schema.ty(), config.to_string().as_bytes()).unwrap();
    assert_eq!(told_of(&unset_as_unknown::<ImageModel>(&value)).await, Vec::<String>::new());
    let Value::Object(mut entries) = value else { panic!("no object") };
    let Some(Value::Object(aws)) = entries.get("aws").cloned() else { panic!("no aws") };
    for name in aws.keys() {
        let mut aws = aws.clone();
        aws.insert(name.clone(), Value::Unknown);
        entries.insert("aws".into(), Value::Object(aws));
        assert_eq!(told_of(&Value::Object(entries.clone())).await, Vec::<String>::new(), "{name}");
    }
    let arn = "arn:aws:kms:us-west-2:123456789012:key/mrk-1";
    for (key, after) in
        [("mrk-1", "87600h"), (arn, "1h"), ("arn:aws:kms:us-west-2:123456789012:alias/a", "1h")]
    {
        let mut config = config.clone();
        config["aws"]["kms_key_id"] = key.into();
        config["aws"]["deprecate_after"] = after.into();
        assert_eq!(told(&config).await, Vec::<String>::new(), "{key}");
    }
    for (verify_boot, security) in [
        (true, serde_json::json!(null)),
        (false, serde_json::json!({ "clean_sensitive_data": true, "remove_ssh_host_keys": true })),
    ] {
        let aws = serde_json::json!({ "encrypt_boot": false, "share": { "public": true }, "verify_boot": verify_boot });
        let public = serde_json::json!({ "name_prefix": "dev", "security": security, "aws": aws });
        assert_eq!(told(&public).await, Vec::<String>::new(), "{verify_boot}");
    }
    let adopted = serde_json::json!({ "existing_image_id": "ami-1", "aws": { "region": "us-west-2" } });
    assert_eq!(told(&adopted).await, Vec::<String>::new());
}

#[tokio::test]
async fn every_mistake_about_aws_is_told_on_its_attribute() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let aws = |aws: &str| serde_json::json!({ "name_prefix": "dev", "aws": json(aws) });
    let with = |name: &str, value: &str| {
        let mut config = aws("{}");
        config[name] = json(value);
        config
    };
    let public = r#"{"encrypt_boot": false, "share": {"public": true}}"#;
    let mut dirty = aws(public);
    dirty["security"] = json(r#"{"clean_sensitive_data": false}"#);
    let mut known = aws(public);
    known["security"] = json(r#"{"remove_ssh_host_keys": false}"#);
    let mut both = aws("{}");
    both["qemu"] = bookworm();
    let long = format!("\"{}\"", "x".repeat(256));
    let cases = [
        (both, "Two backends"),
        (dirty, "aws.share.public: Public image is not cleaned"),
        (known, "aws.share.public: Public image is not cleaned"),
        (aws(public), "aws.share.public: Nobody looks whether the public image is clean"),
        (aws(r#"{"share": {"public": true}}"#), "aws.share.public: Encrypted image cannot be public"),
        (aws(r#"{"share": {"account_ids": ["123456789012"]}}"#), "aws.kms_key_id: Key cannot be shared"),
        (
            aws(
                r#"{"share": {"account_ids": ["123456789012"]}, "kms_key_id": "1-2", "ami_regions": ["eu-west-1"]}"#,
            ),
            "aws.kms_key_id: Key does not go along",
        ),
        (aws(r#"{"deprecate_after": "87601h"}"#), "aws.deprecate_after: Too long"),
        (
            aws(r#"{"encrypt_boot": false, "share": {"public": true}, "deprecate_after": "17521h"}"#),
            "aws.deprecate_after: Too long",
        ),
        (aws(r#"{"share": {"account_ids": ["1"]}, "kms_key_id": "k"}"#), "aws.share.account_ids: "),
        (aws(r#"{"share": {"organization_arns": ["o-1"]}}"#), "aws.share.organization_arns: "),
        (aws(r#"{"encrypt_boot": false, "kms_key_id": "k"}"#), "aws.kms_key_id: Key without encryption"),
        (aws(r#"{"region": "us-west-2a"}"#), "aws.region: "),
        (aws(r#"{"ami_regions": ["Frankfurt"]}"#), "aws.ami_regions: "),
        (aws(r#"{"deprecate_after": "soon"}"#), "aws.deprecate_after: "),
        (
            aws(r#"{"source_image": "a", "source_filter": {"name": "a", "owners": ["self"]}}"#),
            "aws.source_filter: ",
        ),
        (aws(r#"{"source_filter": {"name": "a", "owners": []}}"#), "aws.source_filter.owners: "),
        (aws(r#"{"ssh_interface": "private"}"#), "aws.allowed_cidrs: No way in"),
        (aws(r#"{"ssh_interface": "session_manager"}"#), "aws.iam_instance_profile: "),
        (aws(r#"{"arch": "arm64"}"#), "aws.instance_type: Other processors"),
        (aws(r#"{"instance_type": "t4g.small"}"#), "aws.instance_type: Other processors"),
        (aws(r#"{"volume_type": "st1"}"#), "aws.volume_type: "),
        (
            aws(r#"{"iam_instance_profile": "arn:aws:iam::123456789012:instance-profile/x"}"#),
            "aws.iam_instance_profile: ARN instead of a name",
        ),
        (aws(r#"{"associate_public_address": false}"#), "aws.associate_public_address: No way in"),
        (aws(r#"{"ssh_keypair_name": "k"}"#), "aws.ssh_private_key_path: Half a key pair"),
        (aws(r#"{"ssh_bastion_port": 22}"#), "aws.ssh_bastion_port: No bastion"),
        (with("tags", r#"{"aws:x": "y"}"#), "tags[\"aws:x\"]: Invalid tag"),
        (with("tags", r#"{"sindri_key": "y"}"#), "tags[\"sindri_key\"]: Invalid tag"),
        (with("channels", r#"[""]"#), "channels: Impossible channel"),
        (with("description", &long), "description: Description too long"),
        (
            json(r#"{"existing_image_id": "ami-1", "aws": {"deprecate_after": "1h"}}"#),
            "aws.deprecate_after: Conflicting attributes",
        ),
    ];
    for (config, expected) in cases {
        let told = told(&config).await;
        assert!(told.iter().any(|line| line.starts_with(expected)), "{config}: {told:?}");
    }
}

#[tokio::test]
async fn every_mistake_is_told_on_its_attribute() {
    let with = |name: &str, value: serde_json::Value| {
        let mut config = serde_json::json!({ "name_prefix": "dev", "qemu": bookworm() });
        config[name] = value;
        config
    };
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let cases = [
        (json(r#"{"name_prefix": "dev"}"#), "No backend"),
        (json(r#"{"qemu": {"base": {"bootstrap": {"suite": "bookworm"}}}}"#), "name_prefix: Missing name"),
        (with("name_prefix", "a/b".into()), "name_prefix: "),
        (with("name_prefix", "$(reboot)".into()), "name_prefix: "),
        (with("name_prefix", "x".repeat(10_000).into()), "name_prefix: "),
        (with("max_age", "1 week".into()), "max_age: "),
        (with("on_error", "ask".into()), "on_error: "),
        (with("timeouts", json(r#"{"create": "soon"}"#)), "timeouts.create: "),
        (with("environment", json(r#"{"1A": "x"}"#)), "environment: Invalid variable"),
        (with("environment_wo", json(r#"{"A B": "x"}"#)), "environment_wo: Invalid variable"),
        (with("provision", json("[{}]")), "provision[0]: Unclear provisioning step"),
        (
            with("provision", json(r#"[{"inline": ["a"], "content": "b"}]"#)),
            "provision[0]: Unclear provisioning step",
        ),
        (with("provision", json(r#"[{"inline": ["a"], "user": "No One"}]"#)), "provision[0].user: "),
        (
            with("provision", json(r#"[{"upload": {"source": "a", "destination": "b"}}]"#)),
            "provision[0].upload.destination: ",
        ),
        (
            with("provision", json(r#"[{"upload": {"source": "a", "destination": "/b", "mode": "999"}}]"#)),
            "provision[0].upload.mode: ",
        ),
        (with("existing_image_id", "x".into()), "name_prefix: Conflicting attributes"),
        (with("qemu", json("{}")), "qemu.base: No base"),
        (with("qemu", json(r#"{"base": {}}"#)), "qemu.base: No base"),
        (
            with("qemu", json(r#"{"base": {"image": "a", "bootstrap": {"suite": "bookworm"}}}"#)),
            "qemu.base: Two bases",
        ),
        (with("qemu", json(r#"{"base": {"image": "https://x/y"}}"#)), "qemu.base.sha256: Missing checksum"),
        (with("qemu", json(r#"{"base": {"image": "x", "sha256": "12"}}"#)), "qemu.base.sha256: "),
        (
            with("qemu", json(r#"{"base": {"bootstrap": {"suite": "Book Worm"}}}"#)),
            "qemu.base.bootstrap.suite: ",
        ),
        (
            with("qemu", json(r#"{"base": {"bootstrap": {"suite": "sid", "mirror": "ftp://x"}}}"#)),
            "qemu.base.bootstrap.mirror: ",
        ),
        (
            with("qemu", json(r#"{"base": {"bootstrap": {"suite": "sid", "mirror": "http://u:p@x/y"}}}"#)),
            "qemu.base.bootstrap.mirror: ",
        ),
        (
            with("qemu", json(r#"{"base": {"bootstrap": {"suite": "sid", "packages": ["a; rm"]}}}"#)),
            "qemu.base.bootstrap.packages: ",
        ),
    ];
    for (config, expected) in cases {
        let told = told(&config).await;
        assert!(told.iter().any(|line| line.starts_with(expected)), "{config}: {told:?}");
    }
}

#[tokio::test]
async fn what_stands_beside_a_mirror_needs_one() {
    for (name, value) in [("snapshot", "20260101"), ("security_mirror", "http://x/security")] {
        let mut config = serde_json::json!({ "name_prefix": "dev", "qemu": bookworm() });
        config["qemu"]["base"]["bootstrap"][name] = value.into();
        let told_of_it = told(&config).await;
        let expected = "qemu.base.bootstrap.mirror: Missing mirror";
        assert!(told_of_it.iter().any(|line| line.starts_with(expected)), "{name}: {told_of_it:?}");
        config["qemu"]["base"]["bootstrap"]["mirror"] = "http://x/archive".into();
        assert_eq!(told(&config).await, [""; 0], "{name}");
    }
}

#[tokio::test]
async fn all_mistakes_are_told_at_once() {
    let config = serde_json::json!({
        "name_prefix": "a b",
        "on_error": "ask",
        "provision": [{}, { "inline": ["a"], "script": "b" }],
        "qemu": { "base": { "image": "https://x/y" }, "format": "iso", "cpus": 0 },
    });
    let told = told(&config).await;
    let paths: Vec<_> = told.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(
        paths,
        [
            "name_prefix",
            "qemu.cpus",
            "qemu.format",
            "on_error",
            "qemu.base.sha256",
            "provision[0]",
            "provision[1]",
        ],
        "{told:#?}"
    );
}

#[test]
fn what_was_asked_for_survives_storage() {
    let config = serde_json::json!({
        "name_prefix": "dev",
        "qemu": bookworm(),
        "provision": [{ "inline": ["true"], "environment": { "A": "\"'$\n" } }],
        "channels": ["b", "a"],
    });
    let schema = Schema::of::<ImageModel>(0);
    let value = json::decode(schema.ty(), config.to_string().as_bytes()).unwrap();
    let mut model: ImageModel = tfplugin::model::decode(&value).unwrap();
    model.image_id = "computed".into();
    let restored: ImageModel = inputs::restore(&inputs::store(&model)).unwrap();
    assert_eq!(restored.encode(), value);
    assert!(inputs::restore::<ImageModel>(&serde_json::json!({ "provision": 7 })).is_err());
}
