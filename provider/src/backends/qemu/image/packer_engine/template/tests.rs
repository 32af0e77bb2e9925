use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::Origin;
use crate::packer::formatted::assert_formatted;

fn part(kind: Kind, text: &str) -> Part {
    let timeout = matches!(kind, Kind::Limited | Kind::Return).then(|| std::time::Duration::from_secs(90));
    Part {
        kind,
        name: text.into(),
        of: Origin::Sindri,
        source: text.into(),
        destination: text.into(),
        timeout,
    }
}

fn all(text: &str) -> Vec<Part> {
    [Kind::Script, Kind::Limited, Kind::Upload, Kind::Reboot, Kind::Return]
        .map(|kind| part(kind, text))
        .into()
}

fn values<'a>(qemu: &'a Command, text: &'a str) -> Values<'a> {
    Values {
        qemu,
        accelerator: text,
        size: 10 << 30,
        port: 2222,
        key: Path::new(text),
        boot_seconds: 900,
        leave: text,
        leave_seconds: 120,
    }
}

#[test]
fn rendered_templates() {
    insta::assert_snapshot!("bundled", hcl(Plugins::Bundled, false, &all("")).unwrap());
    let required = hcl(Plugins::Required, false, &[]).unwrap();
    insta::assert_snapshot!("required", required.split("variable").next().unwrap());
    let own = hcl(Plugins::Required, true, &[]).unwrap();
    assert!(own.contains(r#"version = ">= 1.0.0, < 2.0.0""#), "{own}");
}

#[test]
fn values_of_a_build() {
    let qemu =
        Command::new("/usr/bin/qemu").args(["-nodefaults", "-m", "1024M", "-drive", "a", "-drive", "{{b"]);
    let variables = variables(&values(&qemu, "x"), &all("y")).unwrap();
    insta::assert_snapshot!("values", serde_json::to_string_pretty(&variables.values()).unwrap());
}

#[test]
fn packer_itself_would_format_it_no_other_way() {
    for plugins in [Plugins::Bundled, Plugins::Required] {
        assert_formatted(&hcl(plugins, false, &all("")).unwrap());
    }
}

proptest! {
    /// No value is in the template, and each is in its file as it was given.
    #[test]
    fn hostile_values_stay_values(text: String, dense in "[{}`$%\"'\\\\\n,#/*a]{1,24}") {
        for text in [text, dense] {
            let parts = all(&text);
            prop_assert_eq!(hcl(Plugins::Bundled, false, &parts).unwrap(), hcl(Plugins::Bundled, false, &all("")).unwrap());
            let qemu = Command::new(format!("/{text}")).args(["-name", &format!("guest={text}")]);
            let variables = variables(&values(&qemu, &text), &parts).unwrap();
            let read = variables.values();
            let plain_of = |value: &Value| value.as_str().unwrap().replace("{{`{{`}}", "{{");
            let expected = text.clone();
            for value in [&read["accelerator"], &read["ssh_key"], &read["leave_command"], &read["parts"][0]["source"], &read["parts"][4]["destination"]] {
                prop_assert_eq!(plain_of(value), expected.clone());
            }
            prop_assert_eq!(plain_of(&read["emulator"]), format!("/{expected}"));
            prop_assert_eq!(plain_of(&read["qemuargs"][0][1]), format!("guest={expected}"));
        }
    }
}
