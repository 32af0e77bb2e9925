//! Which module may know which. The rules are a table; ARCHITECTURE.md says why they are so.

use std::path::{Component, Path};

use anyhow::Result;

use super::Finding;
use super::paths::{self, Named};

/// A part of the house and what it must not name.
struct Rule {
    /// Files below this folder, or this file.
    inside: &'static str,
    /// First names of paths.
    forbidden: &'static [&'static [&'static str]],
    /// Files that may nevertheless.
    except: fn(&Path) -> bool,
    why: &'static str,
}

/// The rooms in which it is known who asks.
const ASKING: &[&str] = &[
    "crate::by_hand",
    "crate::provider",
    "crate::resources",
    "crate::data_sources",
    "crate::functions",
    "crate::configured",
    "crate::diagnose",
];

const RULES: [Rule; 14] = [
    Rule {
        inside: "provider/src/domain",
        forbidden: &[
            ASKING,
            &["crate::backends", "crate::provision", "crate::packer", "crate::journal", "crate::ssh"],
            &["tfplugin", "reqwest", "russh"],
        ],
        except: never,
        why: "the domain knows no backend, no wire type and no client",
    },
    Rule {
        inside: "provider/src/resources",
        forbidden: &[&["crate::by_hand", "crate::provider", "crate::data_sources", "crate::functions"]],
        except: of_tests,
        why: "a resource knows neither the registry nor its neighbours",
    },
    Rule {
        inside: "provider/src/data_sources",
        forbidden: &[&["crate::by_hand", "crate::provider", "crate::functions"]],
        except: of_tests,
        why: "a data source does not know the registry",
    },
    Rule {
        inside: "provider/src/functions",
        forbidden: &[&[
            "crate::by_hand",
            "crate::provider",
            "crate::resources",
            "crate::data_sources",
            "crate::configured",
            "crate::backends",
        ]],
        except: of_tests,
        why: "a function computes, and asks nobody",
    },
    Rule {
        inside: "provider/src/backends",
        forbidden: &[ASKING],
        except: never,
        why: "a backend does not know who asks",
    },
    Rule {
        inside: "provider/src/provision",
        forbidden: &[ASKING, &["crate::backends"]],
        except: never,
        why: "steps are the same for every backend",
    },
    Rule {
        inside: "provider/src/packer",
        forbidden: &[ASKING, &["crate::backends", "crate::domain", "crate::provision"]],
        except: never,
        why: "running Packer knows nothing of who runs it",
    },
    Rule {
        inside: "provider/src/journal",
        forbidden: &[ASKING, &["crate::backends", "crate::provision", "crate::packer", "tfplugin"]],
        except: never,
        why: "the journal is the same for every cloud",
    },
    Rule {
        inside: "provider/src/ssh",
        forbidden: &[ASKING, &["crate::backends", "crate::provision", "crate::packer", "tfplugin"]],
        except: never,
        why: "a login knows no backend",
    },
    Rule {
        inside: "provider/src/process",
        forbidden: &[
            ASKING,
            &["crate::backends", "crate::domain", "crate::provision", "crate::packer", "tfplugin"],
        ],
        except: never,
        why: "a process is a process",
    },
    Rule {
        inside: "provider/src",
        forbidden: &[&["tfplugin", "tfplugin_derive"]],
        except: speaks_to_the_host,
        why: "wire values stay in resources, data sources and functions, and in a backend's model",
    },
    Rule {
        inside: "provider/src",
        forbidden: &[&["prost", "prost_types", "tonic", "tonic_prost", "tower"]],
        except: never,
        why: "the provider sees no gRPC",
    },
    Rule {
        inside: "proto/src",
        forbidden: &[&["prost", "prost_types", "tonic", "tonic_prost"]],
        except: speaks_grpc,
        why: "only rpc, serve and generated code see prost and tonic",
    },
    Rule {
        inside: "acceptance-tests",
        forbidden: &[&["sindri", "tfplugin"]],
        except: never,
        why: "a scenario sees what a user sees",
    },
];

fn never(_: &Path) -> bool {
    false
}

/// A test may begin with the whole provider.
fn of_tests(file: &Path) -> bool {
    file.file_stem().is_some_and(|stem| stem == "tests")
}

fn speaks_to_the_host(file: &Path) -> bool {
    let Ok(inside) = file.strip_prefix("provider/src") else { return false };
    let names: Vec<&str> = inside.components().filter_map(name).collect();
    match names.as_slice() {
        ["main.rs" | "lib.rs" | "by_hand.rs" | "provider.rs" | "configured.rs" | "diagnose.rs"]
        | ["provider", ..] => true,
        ["resources" | "data_sources" | "functions", ..] | ["backends", "section", ..] => true,
        ["backends", _, rest @ ..] => {
            rest.first().is_some_and(|first| ["model", "model.rs", "vm_model.rs"].contains(first))
        }
        _ => false,
    }
}

fn speaks_grpc(file: &Path) -> bool {
    ["proto/src/rpc", "proto/src/serve"].iter().any(|folder| file.starts_with(folder))
        || ["rpc", "serve"].contains(&file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default())
}

fn name(component: Component<'_>) -> Option<&str> {
    component.as_os_str().to_str()
}

/// What a file names and must not.
pub(crate) fn check(file: &Path, source: &str) -> Result<Vec<Finding>> {
    let Some(module) = module_of(file) else { return Ok(Vec::new()) };
    let named = paths::in_source(source, &module)?;
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| file.starts_with(rule.inside) && !(rule.except)(file)) {
        for path in &named {
            let mut forbidden = rule.forbidden.iter().copied().flatten();
            let hit = forbidden.find(|prefix| path.is_in(&prefix.split("::").collect::<Vec<_>>()));
            if let Some(hit) = hit.filter(|hit| hit.contains("::") || path.segments.len() > 1) {
                findings.push(Finding::new(file, path.line, format!("names {hit}: {}", rule.why)));
            }
        }
    }
    findings.extend(other_backends(file, &named));
    findings.extend(more_than_the_image(file, &named));
    findings.dedup();
    Ok(findings)
}

/// Backends share traits in the domain, never each other's models.
fn other_backends(file: &Path, named: &[Named]) -> Vec<Finding> {
    let Ok(inside) = file.strip_prefix("provider/src/backends") else { return Vec::new() };
    let mut parts = inside.components().filter_map(name);
    let (Some(own), Some(_)) = (parts.next(), parts.next()) else { return Vec::new() };
    let foreign = |path: &&Named| {
        // A module's name: types that backends/mod.rs itself defines begin with a capital. Sections all of them have.
        let is_other =
            |name: &String| name != own && name != "section" && name.starts_with(char::is_lowercase);
        path.is_in(&["crate", "backends"]) && path.segments.get(2).is_some_and(is_other)
    };
    let finding = |path: &Named| {
        let what = format!("names backends::{}: backends do not know each other", path.segments[2]);
        Finding::new(file, path.line, what)
    };
    named.iter().filter(foreign).map(finding).collect()
}

/// A data source describes an image as the resource does, and knows nothing else of resources.
fn more_than_the_image(file: &Path, named: &[Named]) -> Vec<Finding> {
    let image = ["crate", "resources", "image"];
    let may = |path: &Named| {
        path.is_in(&image) && path.segments.get(3).is_some_and(|it| ["model", "place"].contains(&it.as_str()))
    };
    let foreign = named.iter().filter(|path| path.is_in(&image[..2]) && !may(path));
    let what =
        "names more of crate::resources than an image's model and place: lifecycles are no data source's";
    if !file.starts_with("provider/src/data_sources") || of_tests(file) {
        return Vec::new();
    }
    foreign.map(|path| Finding::new(file, path.line, what)).collect()
}

/// The module that a file is, as a path from `crate`; none outside of a crate's sources and tests.
fn module_of(file: &Path) -> Option<Vec<String>> {
    let names: Vec<&str> = file.components().filter_map(name).collect();
    let root = names.iter().position(|name| ["src", "tests"].contains(name))?;
    let mut module = vec!["crate".to_owned()];
    for part in &names[root + 1..] {
        match part.strip_suffix(".rs") {
            None => module.push((*part).to_owned()),
            Some("mod" | "lib" | "main") => {}
            Some(stem) => module.push(stem.to_owned()),
        }
    }
    Some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, source: &str) -> Vec<String> {
        check(Path::new(file), source).unwrap().into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_must_not_be_known_is_found() {
        for (file, source, what) in [
            ("provider/src/domain/image.rs", "use crate::backends::qemu::Store;", "crate::backends"),
            ("provider/src/domain/image.rs", "fn f(c: reqwest::Client) {}", "reqwest"),
            ("provider/src/domain/image.rs", "use super::super::resources::X;", "crate::resources"),
            ("provider/src/backends/qemu/mod.rs", "use crate::resources::image;", "crate::resources"),
            ("provider/src/backends/aws/client.rs", "use crate::backends::qemu::Store;", "backends::qemu"),
            ("provider/src/backends/aws/client.rs", "use super::super::qemu;", "backends::qemu"),
            ("provider/src/backends/qemu/store.rs", "use tfplugin::Attr;", "tfplugin"),
            ("provider/src/process/run.rs", "use crate::domain::Image;", "crate::domain"),
            ("provider/src/resources/image/mod.rs", "use tonic::Status;", "tonic"),
            ("provider/src/provision/step.rs", "use tfplugin::Attr;", "tfplugin"),
            ("provider/src/resources/vm/mod.rs", "use crate::provider::Provider;", "crate::provider"),
            ("provider/src/data_sources/image/mod.rs", "use crate::provider::Provider;", "crate::provider"),
            ("provider/src/domain/image.rs", "use crate::ssh::Session;", "crate::ssh"),
            ("provider/src/backends/mod.rs", "use crate::diagnose::chain;", "crate::diagnose"),
            ("proto/src/value/mod.rs", "impl prost::Message for V {}", "prost"),
            ("acceptance-tests/tests/scenarios/image.rs", "use sindri::domain::Image;", "sindri"),
        ] {
            let found = found(file, source);
            assert!(
                found.iter().any(|one| one.contains(&format!("names {what}:"))),
                "{file} {source}: {found:?}"
            );
        }
    }

    #[test]
    fn of_resources_a_data_source_may_know_how_an_image_is_described() {
        for source in ["use crate::resources::vm;", "use crate::resources::image::{self, model};"] {
            let found = found("provider/src/data_sources/x/mod.rs", source);
            assert!(found.len() == 1 && found[0].contains("an image's model"), "{source}: {found:?}");
        }
    }

    #[test]
    fn what_may_be_known_passes() {
        for (file, source) in [
            ("provider/src/domain/image.rs", "use super::names; // not crate::backends"),
            ("provider/src/backends/mod.rs", "use crate::domain::Backend; mod qemu; use self::qemu::Qemu;"),
            ("provider/src/backends/qemu/mod.rs", "use crate::backends::Target; use super::qemu::store;"),
            ("provider/src/backends/qemu/model.rs", "use tfplugin::Attr;"),
            ("provider/src/backends/qemu/model/vm.rs", "use tfplugin::Attr;"),
            ("provider/src/resources/image/model/step.rs", "use tfplugin::Attr;"),
            ("provider/src/resources/vm/plan.rs", "use tfplugin::Attr;"),
            ("provider/src/data_sources/x/mod.rs", "use crate::resources::image::place::Place;"),
            ("provider/src/data_sources/x/tests.rs", "use crate::provider::Provider;"),
            ("provider/src/main.rs", "use tfplugin::serve;"),
            ("proto/src/rpc/plan.rs", "use tonic::Status;"),
            ("proto/src/value/mod.rs", "let tonic = 1;"),
            ("proto/build.rs", "use tonic_prost_build::Builder;"),
        ] {
            assert_eq!(found(file, source), Vec::<String>::new(), "{file} {source}");
        }
    }

    #[test]
    fn every_rule_is_about_files_that_can_exist() {
        for rule in &RULES {
            let file = Path::new(rule.inside).join("src/x.rs");
            let source = format!("use {}::X;", rule.forbidden[0][0]);
            assert!((rule.except)(&file) || !check(&file, &source).unwrap().is_empty(), "{}", rule.inside);
        }
    }
}
