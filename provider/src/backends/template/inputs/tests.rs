use std::os::unix::fs::symlink;

use super::*;

const TEMPLATE: &str = r#"
variable "name" {
  default = "web"
}
variable "zones" {
  type    = list(string)
  default = []
}
locals {
  scripts = "${path.root}/scripts"
}
source "file" "it" {
  content = file("${path.root}/content.txt")
  target  = "out/${var.name}.txt"
}
build {
  sources = ["source.file.it"]
  provisioner "shell" {
    scripts = ["${local.scripts}/${var.name}.sh", "scripts/plain.sh"]
    inline  = ["echo {{ .Vars }} > /tmp/x"]
  }
  provisioner "file" {
    source      = "files"
    destination = "/etc/files"
  }
}
"#;

/// A folder with a template and what it names.
fn folder() -> (tempfile::TempDir, TemplateSpec) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("it.pkr.hcl", TEMPLATE);
    for name in ["content.txt", "scripts/web.sh", "scripts/db.sh", "scripts/plain.sh", "files/a", "other.txt"]
    {
        write(name, name);
    }
    let spec = TemplateSpec {
        template: dir.path().join("it.pkr.hcl"),
        directory: dir.path().to_owned(),
        secrets_known: true,
        ..TemplateSpec::default()
    };
    (dir, spec)
}

fn key(spec: &TemplateSpec) -> String {
    spec.key_inputs().unwrap().to_string()
}

#[test]
fn what_a_template_names_counts_and_nothing_else() {
    let (dir, spec) = folder();
    let before = key(&spec);
    let changes: [(&str, bool); 8] = [
        ("content.txt", true),
        ("scripts/web.sh", true),
        ("scripts/plain.sh", true),
        ("files/a", true),
        ("files/new", true),
        // The folder is named, too.
        ("scripts/db.sh", true),
        ("other.txt", false),
        ("out/web.txt", false),
    ];
    for (name, counts) in changes {
        let path = dir.path().join(name);
        let old = fs::read(&path).ok();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "changed").unwrap();
        assert_eq!(key(&spec) != before, counts, "{name}");
        match old {
            Some(old) => fs::write(&path, old).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert_eq!(key(&spec), before, "{name}");
    }
    for (name, mode, counts) in [
        ("scripts/web.sh", 0o664, false),
        ("files", 0o775, false),
        ("files/a", 0o600, false),
        ("scripts/web.sh", 0o755, true),
    ] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(key(&spec) != before, counts, "the mode of {name}");
    }
}

#[test]
fn the_key_is_the_same_wherever_the_template_is() {
    let ((_one, a), (_two, b)) = (folder(), folder());
    assert_eq!(key(&a), key(&b));
}

#[test]
fn values_lead_to_other_files_and_count_themselves() {
    let (dir, spec) = folder();
    let with = |name: &str| TemplateSpec {
        variables: [("name".to_owned(), name.to_owned())].into(),
        ..spec.clone()
    };
    let database = key(&with("db"));
    assert_ne!(database, key(&with("web")));
    fs::write(dir.path().join("scripts/db.sh"), "changed").unwrap();
    assert_ne!(key(&with("db")), database);
    fs::write(dir.path().join("v.pkrvars.hcl"), "name = \"db\"\nzones = [\"files\"]\n").unwrap();
    let by_file = TemplateSpec { variable_files: vec![dir.path().join("v.pkrvars.hcl")], ..spec.clone() };
    let before = key(&by_file);
    fs::write(dir.path().join("scripts/db.sh"), "changed again").unwrap();
    assert_ne!(key(&by_file), before);
    let secret = TemplateSpec {
        secrets: [("name".to_owned(), crate::process::Secret::new("db"))].into(),
        ..spec.clone()
    };
    assert!(!key(&secret).contains("\"db\""));
    let version = TemplateSpec { secrets_version: Some(2), ..secret.clone() };
    assert_ne!(key(&version), key(&secret));
}

#[test]
fn all_of_a_folder_that_packer_reads_counts() {
    let (dir, file) = folder();
    let spec = TemplateSpec { template: dir.path().to_owned(), ..file };
    let before = key(&spec);
    for (name, text) in
        [("b.pkr.hcl", "locals {}\n"), ("c.pkr.json", "{}"), ("d.auto.pkrvars.hcl", "name = \"x\"\n")]
    {
        fs::write(dir.path().join(name), text).unwrap();
        assert_ne!(key(&spec), before, "{name}");
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("e.json"), "{").unwrap();
    assert_eq!(key(&spec), before, "what Packer does not read");
}

#[test]
fn the_older_language_and_json_name_files_too() {
    let (dir, spec) = folder();
    let older = r#"{"variables": {"name": "web"}, "builders": [{"type": "file", "target": "out/x",
        "content": "{{user `name`}} {{timestamp}}", "source": "{{template_dir}}/scripts/{{user `name`}}.sh"}]}"#;
    let newer = r#"{"variable": {"name": {"default": "web"}}, "source": {"file": {"it": {
        "target": "out/x", "source": "${path.root}/scripts/${var.name}.sh"}}}}"#;
    for (name, text) in [("a.json", older), ("a.pkr.json", newer)] {
        fs::write(dir.path().join(name), text).unwrap();
        let spec = TemplateSpec { template: dir.path().join(name), ..spec.clone() };
        let before = key(&spec);
        fs::write(dir.path().join("scripts/web.sh"), name).unwrap();
        assert_ne!(key(&spec), before, "{name}");
    }
}

#[test]
fn what_is_no_file_stops_nobody() {
    let (dir, spec) = folder();
    let before = key(&spec);
    symlink("nowhere", dir.path().join("files/link")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("files/pipe")).status().unwrap();
    assert!(pipe.success());
    assert_ne!(key(&spec), before);
    fs::remove_dir_all(dir.path().join("scripts")).unwrap();
    key(&spec);
    let large = fs::File::create(dir.path().join("files/large")).unwrap();
    large.set_len(MOST_BYTES + 1).unwrap();
    let mistakes = spec.key_inputs().unwrap_err();
    assert!(mistakes[0].problem.contains("triggers"), "{mistakes:?}");
}

/// What is found before a build and after it, when the template has written this.
fn around_a_build(name: &str, template: &str, writes: &[&str], values: &[(&str, &str)]) {
    let (dir, spec) = folder();
    fs::write(dir.path().join(name), template).unwrap();
    // A folder of work that is reached by a link, as one may have it.
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("work");
    symlink(dir.path(), &link).unwrap();
    for here in [dir.path(), &link] {
        let spec = TemplateSpec {
            template: here.join(name),
            directory: here.to_owned(),
            variables: values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..spec.clone()
        };
        let before = key(&spec);
        for path in writes.iter().map(|path| here.join(path)) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "made").unwrap();
        }
        assert_eq!(key(&spec), before, "{template}");
        fs::remove_dir_all(here.join("out")).unwrap();
        fs::write(here.join("files/a"), before).unwrap();
    }
}

#[test]
fn what_a_build_writes_does_not_count() {
    let source =
        |target: &str| format!("source \"file\" \"it\" {{\n  content = \"x\"\n  target = {target}\n}}\n");
    let local = "locals {\n  out = \"${path.root}/out\"\n}\n";
    let variable = "variable \"out\" {\n  default = \"out\"\n}\n";
    let after =
        |name: &str, body: &str| format!("build {{\n  post-processor \"{name}\" {{\n    {body}\n  }}\n}}\n");
    for (template, writes) in [
        (format!("{local}{}", source("\"${local.out}/x.txt\"")), &["out/x.txt", "out/x.txt.sum"][..]),
        (format!("{local}{}", source("\"${local.out}/deep/x.txt\"")), &["out/deep/x.txt"]),
        (format!("{variable}{}", source("\"${var.out}/x.txt\"")), &["out/x.txt"]),
        (
            format!("{variable}{}", after("vagrant", "output = \"${var.out}/{{.BuildName}}.box\"")),
            &["out/it.box"],
        ),
        (
            format!(
                "{local}{}",
                after("checksum", "output = \"${local.out}/${timestamp()}/{{.BuildName}}\"")
            ),
            &["out/1/it"],
        ),
        (
            format!("{local}{}", after("artifice", "files = [\"out/a.box\", \"out/*.sum\"]")),
            &["out/a.box", "out/b.sum"],
        ),
        (format!("{}{}", source("\"it.txt\""), after("artifice", "files = [\"out/a.box\"]")), &["out/a.box"]),
    ] {
        around_a_build("it.pkr.hcl", &template, writes, &[]);
    }
    let given = format!("variable \"out\" {{}}\n{}", source("\"${var.out}/x.txt\""));
    around_a_build("it.pkr.hcl", &given, &["out/x.txt"], &[("out", "./out")]);
    let older = r#"{"variables": {"out": "out"}, "post-processors": [[{"type": "artifice", "files": ["out/a.box"]},
        {"type": "vagrant", "output": "{{user `out`}}/{{.BuildName}}.box"}]]}"#;
    around_a_build("a.json", older, &["out/a.box", "out/b.box"], &[]);
    let newer = r#"{"locals": {"out": "${path.root}/out"}, "build": {"post-processor": [
        {"artifice": {"files": ["${local.out}/a.box"]}}]}}"#;
    around_a_build("a.pkr.json", newer, &["out/a.box"], &[]);
}

#[test]
fn a_file_beside_what_is_written_counts_when_it_is_named() {
    let (dir, spec) = folder();
    let template = "build {\n  provisioner \"file\" {\n    sources = [\"files\", \"files/a\"]\n  }\n  \
        post-processor \"checksum\" {\n    output = \"files/{{.BuildName}}.sum\"\n  }\n}\n";
    fs::write(&spec.template, template).unwrap();
    let before = key(&spec);
    fs::write(dir.path().join("files/b"), "new").unwrap();
    assert_eq!(key(&spec), before);
    fs::write(dir.path().join("files/a"), "new").unwrap();
    assert_ne!(key(&spec), before);
}
