//! The host's rules on what apply returns: what was known in the plan must be so, and nothing is unknown.

use crate::diag::Diagnostics;
use crate::path::Path;
use crate::value::{Type, Value};

/// Compares an applied object with its plan, leaf by leaf, and tells every difference. Hosts mark an object as tainted whose
/// creation fails, and no other.
pub(crate) fn check_applied(
    ty: &Type,
    planned: &Value,
    applied: &Value,
    is_new: bool,
    diags: &mut Diagnostics,
) {
    let mut found = Diagnostics::new();
    compare(ty, planned, applied, &Path::root(), &mut found);
    let saved =
        if is_new { "The object was saved as tainted." } else { "The object was saved as it is now." };
    for mut difference in found {
        difference.detail = format!("{} {saved}", difference.detail);
        diags.push(difference);
    }
}

fn compare(ty: &Type, planned: &Value, applied: &Value, path: &Path, diags: &mut Diagnostics) {
    match (ty, planned, applied) {
        (_, Value::Unknown, applied) => expect_known(applied, path, diags),
        (_, _, Value::Unknown) => unknown_left(path, diags),
        (Type::Object(attributes), Value::Object(planned), Value::Object(applied)) => {
            for (name, ty) in attributes {
                let of = |entries: &std::collections::BTreeMap<String, Value>| {
                    entries.get(name).cloned().unwrap_or_default()
                };
                compare(ty, &of(planned), &of(applied), &path.attr(name), diags);
            }
        }
        (Type::Map(ty), Value::Object(planned), Value::Object(applied))
            if planned.keys().eq(applied.keys()) =>
        {
            for (key, planned) in planned {
                compare(ty, planned, &applied[key], &path.key(key), diags);
            }
        }
        (Type::List(ty), Value::List(planned), Value::List(applied)) if planned.len() == applied.len() => {
            for (position, (planned, applied)) in planned.iter().zip(applied).enumerate() {
                compare(ty, planned, applied, &path.index(position), diags);
            }
        }
        (Type::Set(_), Value::List(planned), Value::List(applied)) => {
            compare_sets(planned, applied, path, diags);
        }
        (_, planned, applied) if planned == applied => {}
        _ => differs(path, diags),
    }
}

/// Elements with unknown parts cannot be matched: the known ones must be there, and no more than planned.
fn compare_sets(planned: &[Value], applied: &[Value], path: &Path, diags: &mut Diagnostics) {
    // The protocol has no path into a set.
    if !applied.iter().all(Value::is_wholly_known) {
        return unknown_left(path, diags);
    }
    let (known, unknown): (Vec<_>, Vec<_>) = planned.iter().partition(|element| element.is_wholly_known());
    let all_there = known.iter().all(|element| applied.contains(element));
    let others = applied.len().saturating_sub(known.len());
    if !all_there || others > unknown.len() || (others == 0 && !unknown.is_empty() && known.is_empty()) {
        differs(path, diags);
    }
}

fn expect_known(applied: &Value, path: &Path, diags: &mut Diagnostics) {
    match applied.untyped() {
        Value::Unknown => unknown_left(path, diags),
        Value::List(elements) => {
            for (position, element) in elements.iter().enumerate() {
                expect_known(element, &path.index(position), diags);
            }
        }
        Value::Object(entries) => {
            for (name, value) in entries {
                expect_known(value, &path.attr(name), diags);
            }
        }
        _ => {}
    }
}

const SUMMARY: &str = "Provider produced an inconsistent result";
const BUG: &str = "This is a bug in the provider; please report it.";

fn unknown_left(path: &Path, diags: &mut Diagnostics) {
    diags.error(path, SUMMARY, format!("`{path}` is still unknown after apply. {BUG}"));
}

fn differs(path: &Path, diags: &mut Diagnostics) {
    diags.error(path, SUMMARY, format!("`{path}` is not what was planned. {BUG}"));
}
