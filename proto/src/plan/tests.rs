//! Tables of plans: what is stored, proposed and configured, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Engine, PlanInput, Planned, check_applied};
use crate::diag::Diagnostics;
use crate::model::Model;
use crate::schema::Schema;
use crate::value::{Attr, Value};

/// A part.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Model)]
struct Part {
    /// Its name.
    #[attr(required, requires_replace)]
    name: Attr<String>,
    /// Its colour.
    #[attr(optional, default = "grey")]
    colour: Attr<String>,
    /// Its number.
    #[attr(computed)]
    number: Attr<i64>,
}

/// A part without computed attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Model)]
struct Rule {
    /// Which port.
    #[attr(required)]
    port: Attr<i64>,
    /// Which protocol.
    #[attr(optional, default = "tcp")]
    protocol: Attr<String>,
}

/// A whole.
#[derive(Debug, Clone, Default, Model)]
#[allow(dead_code)]
struct Whole {
    /// Its title.
    #[attr(optional)]
    title: Attr<String>,
    /// Its size.
    #[attr(optional, default = 10)]
    size: Attr<i64>,
    /// Its key.
    #[attr(optional, requires_replace)]
    key: Attr<String>,
    /// Its zone, chosen if not given.
    #[attr(optional, computed)]
    zone: Attr<String>,
    /// Its secret.
    #[attr(optional, write_only)]
    secret: Attr<String>,
    /// One part.
    #[attr(optional)]
    main: Attr<Part>,
    /// Parts in order.
    #[attr(optional)]
    list: Attr<Vec<Part>>,
    /// Parts by name.
    #[attr(optional)]
    map: Attr<BTreeMap<String, Part>>,
    /// Rules.
    #[attr(optional)]
    rules: Attr<BTreeSet<Rule>>,
    /// Its identifier.
    #[attr(computed, keep_prior)]
    id: Attr<String>,
    /// Its state.
    #[attr(computed)]
    status: Attr<String>,
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::of::<Whole>(0))
}

/// A whole object from JSON; `"?"` is unknown.
fn object(json: &serde_json::Value) -> Value {
    fn unknown(value: Value) -> Value {
        match value {
            Value::String(text) if text == "?" => Value::Unknown,
            Value::List(elements) => Value::List(elements.into_iter().map(unknown).collect()),
            Value::Object(entries) => {
                Value::Object(entries.into_iter().map(|(key, value)| (key, unknown(value))).collect())
            }
            other => other,
        }
    }
    let value = crate::value::json::decode_untyped(json.to_string().as_bytes()).unwrap();
    schema().ty().conform(unknown(value)).unwrap()
}

fn plan(prior: &Value, proposed: &Value, config: &Value) -> Planned {
    let input = PlanInput {
        prior: prior.clone(),
        proposed: proposed.clone(),
        config: config.clone(),
        prior_private: Vec::new(),
    };
    let mut diags = Diagnostics::new();
    let engine = Engine::new(schema(), input);
    let is_replacement = engine.is_replacement();
    let planned = engine.finish(&mut diags).unwrap_or_else(|| panic!("{diags}"));
    assert_eq!(is_replacement, !planned.requires_replace.is_empty());
    planned
}

macro_rules! json {
    ($($json:tt)+) => { object(&serde_json::json!($($json)+)) };
}

#[test]
fn creations() {
    let computed = |mut object: Value| {
        if let Value::Object(entries) = &mut object {
            entries.extend(["id", "status"].map(|name| (name.to_owned(), Value::Unknown)));
        }
        object
    };
    let cases = [
        (json!({}), json!({"size": 10, "zone": "?"})),
        (json!({"size": 3, "zone": "a"}), json!({"size": 3, "zone": "a"})),
        (json!({"size": "?", "title": "?"}), json!({"size": "?", "title": "?", "zone": "?"})),
        (json!({"secret": "hush"}), json!({"size": 10, "zone": "?"})),
        (
            json!({"main": {"name": "a"}, "list": [{"name": "b", "colour": "red"}], "map": {"k": {"name": "?"}}}),
            json!({"size": 10, "zone": "?",
                "main": {"name": "a", "colour": "grey", "number": "?"},
                "list": [{"name": "b", "colour": "red", "number": "?"}],
                "map": {"k": {"name": "?", "colour": "grey", "number": "?"}}}),
        ),
        (json!({"list": "?", "map": {}}), json!({"size": 10, "zone": "?", "list": "?", "map": {}})),
        (
            json!({"rules": [{"port": 2}, {"port": 1, "protocol": "udp"}]}),
            json!({"size": 10, "zone": "?",
                "rules": [{"port": 2, "protocol": "tcp"}, {"port": 1, "protocol": "udp"}]}),
        ),
    ];
    for (config, expected) in cases {
        let planned = plan(&Value::Null, &config, &config);
        assert_eq!(planned.state, computed(expected), "{config:?}");
        assert!(planned.requires_replace.is_empty());
    }
}

/// Stored, proposed and configured; what differs from the stored object, and what must be replaced.
#[test]
fn updates() {
    let stored = json!({"size": 10, "zone": "z", "id": "i", "status": "up"});
    let parts = json!({"size": 10, "zone": "z", "id": "i", "status": "up",
        "list": [{"name": "a", "colour": "red", "number": 1}]});
    let cases = [
        // Nothing configured differs: exactly as it was.
        (&stored, stored.clone(), json!({}), stored.clone(), ""),
        // A title: what is computed is computed anew, but the id stays.
        (
            &stored,
            json!({"title": "t", "size": 10, "zone": "z", "id": "i", "status": "up"}),
            json!({"title": "t"}),
            json!({"title": "t", "size": 10, "zone": "?", "id": "i", "status": "?"}),
            "",
        ),
        // A size that is no longer configured falls back to its default.
        (
            &json!({"size": 3, "zone": "z", "id": "i", "status": "up"}),
            json!({"size": 3, "zone": "z", "id": "i", "status": "up"}),
            json!({}),
            json!({"size": 10, "zone": "?", "id": "i", "status": "?"}),
            "",
        ),
        // A write-only value is no change.
        (
            &stored,
            json!({"secret": "hush", "size": 10, "zone": "z", "id": "i", "status": "up"}),
            json!({"secret": "hush"}),
            stored.clone(),
            "",
        ),
        // A key replaces.
        (
            &stored,
            json!({"key": "k", "size": 10, "zone": "z", "id": "i", "status": "up"}),
            json!({"key": "k"}),
            json!({"key": "k", "size": 10, "zone": "?", "id": "i", "status": "?"}),
            "key",
        ),
        // Inside a list.
        (
            &parts,
            json!({"size": 10, "zone": "z", "id": "i", "status": "up",
                "list": [{"name": "b", "colour": "red", "number": 1}]}),
            json!({"list": [{"name": "b", "colour": "red"}]}),
            json!({"size": 10, "zone": "?", "id": "i", "status": "?",
                "list": [{"name": "b", "colour": "red", "number": "?"}]}),
            "list[0].name",
        ),
    ];
    for (prior, proposed, config, expected, replaced) in cases {
        let planned = plan(prior, &proposed, &config);
        assert_eq!(planned.state, expected, "{config:?}");
        let paths: Vec<_> = planned.requires_replace.iter().map(ToString::to_string).collect();
        assert_eq!(paths.join(" "), replaced);
        assert_eq!(planned.state == *prior, expected == *prior);
    }
}

#[test]
fn a_set_with_defaults_plans_empty() {
    let rules = serde_json::json!([{"port": 1, "protocol": "tcp"}, {"port": 2, "protocol": "udp"}]);
    let prior = json!({"size": 10, "zone": "z", "id": "i", "status": "up", "rules": rules});
    let config = json!({"rules": [{"port": 2, "protocol": "udp"}, {"port": 1}]});
    // Hosts may or may not have found the stored elements that belong to the configured ones.
    let unmatched = json!({"size": 10, "zone": "z", "id": "i", "status": "up",
        "rules": [{"port": 2, "protocol": "udp"}, {"port": 1}]});
    for proposed in [&prior, &unmatched] {
        assert_eq!(plan(&prior, proposed, &config).state, prior);
    }
}

/// What apply may return for a plan, and the paths told of.
#[test]
fn applied_objects_keep_to_their_plan() {
    let cases = [
        (json!({"id": "?", "title": "t"}), json!({"id": "i", "title": "t"}), ""),
        (json!({"id": "?"}), json!({"id": "?"}), "id"),
        (json!({"title": "t"}), json!({"title": "u"}), "title"),
        (json!({"title": "t"}), json!({}), "title"),
        (json!({}), json!({"title": "t"}), "title"),
        (json!({"list": [{"number": "?"}]}), json!({"list": [{"number": 1}]}), ""),
        (json!({"list": [{"number": "?"}]}), json!({"list": []}), "list"),
        (json!({"list": "?"}), json!({"list": [{"number": "?"}]}), "list[0].number"),
        (json!({"map": {"a": {"name": "x"}}}), json!({"map": {"a": {"name": "y"}}}), "map[\"a\"].name"),
        (json!({"map": {"a": {}}}), json!({"map": {"b": {}}}), "map"),
        (json!({"rules": [{"port": 1}, {"port": 2}]}), json!({"rules": [{"port": 2}, {"port": 1}]}), ""),
        (json!({"rules": [{"port": 1}, {"port": "?"}]}), json!({"rules": [{"port": 1}, {"port": 9}]}), ""),
        (
            json!({"rules": [{"port": 1}, {"port": "?"}]}),
            json!({"rules": [{"port": 8}, {"port": 9}]}),
            "rules",
        ),
    ];
    for (planned, applied, expected) in cases {
        let mut diags = Diagnostics::new();
        check_applied(schema().ty(), &planned, &applied, true, &mut diags);
        let paths: Vec<_> =
            diags.iter().filter_map(|diag| diag.path.as_ref()).map(ToString::to_string).collect();
        assert_eq!(paths.join(" "), expected, "{planned:?} {applied:?}");
        assert!(diags.iter().all(|diag| diag.detail.ends_with("saved as tainted.")), "{diags:?}");
        let mut of_change = Diagnostics::new();
        check_applied(schema().ty(), &planned, &applied, false, &mut of_change);
        assert_eq!(of_change.iter().count(), paths.len());
        assert!(!of_change.iter().any(|diag| diag.detail.contains("tainted")), "{of_change:?}");
    }
}
