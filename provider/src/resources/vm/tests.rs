//! What a user is told about a configuration, before anything is planned.

use tfplugin::value::json;
use tfplugin::{Diagnostics, Model, Resource, Schema, Value};

use super::*;
use crate::resources::inputs::tests::unset_as_unknown;

/// All that is said about a configuration, a line each: path, summary, detail.
async fn told(config: &Value) -> Vec<String> {
    let mut diags = Diagnostics::new();
    tfplugin::schema::check_config(&VmModel::attributes(), config, true, &mut diags);
    let model: VmModel = tfplugin::model::decode(config).unwrap();
    VmResource::new(Arc::default()).validate(&model, &mut diags).await;
    diags.iter().map(ToString::to_string).collect()
}

fn value(text: &str) -> Value {
    json::decode(Schema::of::<VmModel>(0).ty(), text.as_bytes()).unwrap()
}

#[tokio::test]
async fn what_is_unknown_is_no_mistake() {
    for config in [
        r#"{"name": "dev", "image_id": "x", "qemu": {}}"#,
        r#"{"name": "dev", "image_id": "x", "qemu": {"ports": {"web": {"guest": 80, "host": 8080}}},
            "wait_for": "cloud-init", "ssh": {"username": "ann"}, "user_data": "x"}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {"allowed_cidrs": ["203.0.113.7/32"],
            "root_volume": {"size_gb": 20, "encrypted": true, "kms_key_id": "alias/x"}}}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {"security_group_ids": ["sg-1"]}, "tags": {"team": "a"}}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {"security_group_ids": ["sg-1"], "allowed_cidrs": []}}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {"security_group_ids": [], "allowed_cidrs": ["192.0.2.0/24"]}}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {}, "wait_for": "none"}"#,
        r#"{"name": "dev", "image_id": "ami-1", "aws": {}, "ssh": {"host": "bastion.example", "port": 2222}}"#,
    ] {
        let config = value(config);
        assert_eq!(told(&config).await, Vec::<String>::new());
        assert_eq!(told(&unset_as_unknown::<VmModel>(&config)).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn every_mistake_is_told_on_its_attribute() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEOp0c43wWytUWlBF7VCQOUIwViXzv ann";
    let cases = [
        (r#""qemu": null"#, "No backend"),
        (r#""name": "a/b""#, "name: "),
        (r#""power_state": "off""#, "power_state: "),
        (r#""wait_for": "port""#, "wait_for: "),
        (r#""user_data": "a", "user_data_wo": "b""#, "user_data_wo: Conflicting attributes"),
        (r#""ssh": {"username": "No One"}"#, "ssh.username: "),
        (r#""ssh": {"public_key": "secret"}"#, "ssh.public_key: "),
        (r#""ssh": {"private_key_path": "/k"}"#, "ssh.public_key: Half a key pair"),
        (
            &format!(r#""ssh": {{"public_key": "{key}"}}, "wait_for": "cloud-init""#),
            "ssh.private_key_path: No private key",
        ),
        (
            &format!(r#""ssh": {{"public_key": "{key}", "private_key_path": "~/.ssh/id_ed25519"}}"#),
            "ssh.private_key_path: ",
        ),
        (r#""aws": {"allowed_cidrs": []}"#, "Two backends"),
        (r#""ssh": {"port": 22}"#, "ssh.port: Not for this backend"),
        (r#""qemu": null, "aws": {}"#, "aws.allowed_cidrs: No way in"),
        (
            r#""qemu": null, "aws": {"allowed_cidrs": [], "security_group_ids": []}"#,
            "aws.allowed_cidrs: No way in",
        ),
        (r#""qemu": null, "aws": {"region": "us-west-2a"}"#, "aws.region: "),
        (r#""qemu": null, "aws": {"instance_type": ""}"#, "aws.instance_type: "),
        (r#""qemu": null, "aws": {"allowed_cidrs": ["everywhere"]}"#, "aws.allowed_cidrs: "),
        (
            r#""qemu": null, "aws": {"allowed_cidrs": ["192.0.2.0/24"], "security_group_ids": ["sg-1"]}"#,
            "aws.allowed_cidrs: Conflicting attributes",
        ),
        (
            r#""qemu": null, "aws": {"spot": true}, "power_state": "stopped""#,
            "power_state: Spot machines cannot be stopped",
        ),
        (r#""qemu": null, "aws": {"imdsv2": "off"}"#, "aws.imdsv2: "),
        (r#""qemu": null, "aws": {"root_volume": {"size_gb": 0}}"#, "aws.root_volume.size_gb: "),
        (r#""qemu": null, "aws": {"root_volume": {"volume_type": "fast"}}"#, "aws.root_volume.volume_type: "),
        (
            r#""qemu": null, "aws": {"root_volume": {"kms_key_id": "k"}}"#,
            "aws.root_volume.kms_key_id: Key without encryption",
        ),
        (r#""qemu": null, "aws": {}, "tags": {"aws:x": "y"}"#, "tags[\"aws:x\"]: Invalid tag"),
        (r#""qemu": {"memory_mb": 1}"#, "qemu.memory_mb: "),
        (r#""qemu": {"cpus": 0}"#, "qemu.cpus: "),
        (r#""qemu": {"disk_size_gb": 0}"#, "qemu.disk_size_gb: "),
        (r#""qemu": {"ports": {"a/b": {"guest": 1, "host": 1}}}"#, "qemu.ports[\"a/b\"]: Invalid name"),
        (
            r#""qemu": {"ports": {"a": {"guest": 1, "host": 1}, "b": {"guest": 2, "host": 1}}}"#,
            "qemu.ports[\"b\"].host: Port used twice",
        ),
    ];
    let long = |name| format!(r#""qemu": null, "aws": {{}}, "{name}": "{}""#, "x".repeat(16 * 1024 + 1));
    let (long, long_secret) = (long("user_data"), long("user_data_wo"));
    let cases = cases.into_iter().chain([
        (long.as_str(), "user_data: User data too long"),
        (long_secret.as_str(), "user_data_wo: User data too long"),
    ]);
    for (mistake, expected) in cases {
        // Of a name that stands twice, the later one counts.
        let good = r#""name": "dev", "image_id": "x", "qemu": {}"#;
        let told = told(&value(&format!("{{{good}, {mistake}}}"))).await;
        assert!(told.iter().any(|line| line.starts_with(expected)), "{mistake}: {told:?}");
    }
}
