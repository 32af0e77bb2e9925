//! Finds the changes that only a replacement can make.

use std::collections::BTreeSet;

use crate::path::Path;
use crate::schema::{Attribute, AttributeType, Nesting};
use crate::value::Value;

/// The changed paths among those asked for by the resource and those whose schema says so; none where there is no object yet.
pub(super) fn changed(
    attributes: &[Attribute],
    prior: &Value,
    planned: &Value,
    asked: &BTreeSet<Path>,
) -> Vec<Path> {
    if prior.is_null() {
        return Vec::new();
    }
    let mut paths: BTreeSet<Path> =
        asked.iter().filter(|path| prior.at(path) != planned.at(path)).cloned().collect();
    by_schema(attributes, prior, planned, &Path::root(), &mut paths);
    paths.into_iter().collect()
}

fn by_schema(
    attributes: &[Attribute],
    prior: &Value,
    planned: &Value,
    path: &Path,
    paths: &mut BTreeSet<Path>,
) {
    for attribute in attributes {
        let prior = prior.get(attribute.name).unwrap_or(&Value::Null);
        let planned = planned.get(attribute.name).unwrap_or(&Value::Null);
        let path = path.attr(attribute.name);
        if prior == planned {
            continue;
        }
        if attribute.requires_replace {
            paths.insert(path);
        } else if let AttributeType::Nested { nesting, attributes } = &attribute.ty {
            nested(*nesting, attributes, prior, planned, &path, paths);
        }
    }
}

/// An object that comes or goes counts as a change of each attribute that it has set.
fn nested(
    nesting: Nesting,
    attributes: &[Attribute],
    prior: &Value,
    planned: &Value,
    path: &Path,
    paths: &mut BTreeSet<Path>,
) {
    let none = Value::Null;
    match nesting {
        Nesting::Single => by_schema(attributes, prior, planned, path, paths),
        Nesting::List => {
            let (prior, planned) =
                (prior.as_list().unwrap_or_default(), planned.as_list().unwrap_or_default());
            for position in 0..prior.len().max(planned.len()) {
                let prior = prior.get(position).unwrap_or(&none);
                let planned = planned.get(position).unwrap_or(&none);
                by_schema(attributes, prior, planned, &path.index(position), paths);
            }
        }
        Nesting::Map => {
            let keys = [prior, planned].into_iter().filter_map(Value::as_object).flat_map(|map| map.keys());
            for key in keys.collect::<BTreeSet<_>>() {
                let prior = prior.get(key).unwrap_or(&none);
                let planned = planned.get(key).unwrap_or(&none);
                by_schema(attributes, prior, planned, &path.key(key), paths);
            }
        }
        // Elements of a set cannot be told apart: the set as a whole is what changed.
        Nesting::Set => {
            if attributes.iter().any(|attribute| attribute.requires_replace) {
                paths.insert(path.clone());
            }
        }
    }
}
