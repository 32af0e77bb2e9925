//! A plan as `show -json` tells it: what would change, and what drifted.

use std::fmt;

use serde_json::Value;

/// One resource's planned change, or the drift that a refresh noticed.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource's address.
    pub address: String,
    /// `["create"]`, `["update"]`, `["delete", "create"]`, `["no-op"]`, …
    pub actions: Vec<String>,
    /// The values before; null for a create.
    pub before: Value,
    /// The values after, without unknown ones; null for a delete.
    pub after: Value,
    /// `true` in the place of every value known only after apply.
    pub after_unknown: Value,
    /// The attributes that force a replacement, as paths: `["cache_key"]`.
    pub replace_paths: Vec<Value>,
}

impl Change {
    fn parse(value: &Value) -> Self {
        let change = &value["change"];
        let strings = |value: &Value| {
            value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
        };
        Change {
            address: value["address"].as_str().unwrap_or_default().to_owned(),
            actions: strings(&change["actions"]),
            before: change["before"].clone(),
            after: change["after"].clone(),
            after_unknown: change["after_unknown"].clone(),
            replace_paths: change["replace_paths"].as_array().cloned().unwrap_or_default(),
        }
    }

    /// The actions in one word: `create`, `update`, `delete`, `replace`, `no-op`, `read`.
    pub fn action(&self) -> &str {
        match self.actions.as_slice() {
            [one] => one,
            [_, _] => "replace",
            _ => "none",
        }
    }

    /// The top-level attributes whose value changes, unknown ones included.
    pub fn changed(&self) -> Vec<String> {
        let Some(before) = self.before.as_object() else { return Vec::new() };
        let differs = |name: &&String| {
            self.after_unknown[name.as_str()] == Value::Bool(true)
                || before[name.as_str()] != self.after[name.as_str()]
        };
        before.keys().filter(differs).cloned().collect()
    }
}

/// A plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The changes to resources, no-ops left out; data sources too when read at apply.
    pub changes: Vec<Change>,
    /// What the refresh found different from the state.
    pub drift: Vec<Change>,
    /// Outputs that change.
    pub outputs: Vec<String>,
}

impl Plan {
    pub(crate) fn parse(document: &Value) -> Self {
        let changes = |name: &str| {
            let all = document[name].as_array().into_iter().flatten().map(Change::parse);
            all.filter(|change| change.action() != "no-op").collect::<Vec<_>>()
        };
        let outputs = document["output_changes"].as_object().into_iter().flatten();
        Plan {
            changes: changes("resource_changes"),
            drift: changes("resource_drift"),
            outputs: outputs
                .filter(|(_, change)| change["actions"] != serde_json::json!(["no-op"]))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// Whether nothing at all would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.outputs.is_empty()
    }

    /// The planned change of a resource, if there is one.
    pub fn change(&self, address: &str) -> Option<&Change> {
        self.changes.iter().find(|change| change.address == address)
    }

    /// The action planned for a resource; `no-op` when nothing is.
    pub fn action(&self, address: &str) -> &str {
        self.change(address).map_or("no-op", Change::action)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let changed = change.changed();
            writeln!(
                f,
                "{} {} {changed:?} because {:?}",
                change.action(),
                change.address,
                change.replace_paths
            )?;
            for name in changed {
                let after = match &change.after_unknown[name.as_str()] {
                    Value::Bool(true) => "(known after apply)".to_owned(),
                    _ => change.after[name.as_str()].to_string(),
                };
                writeln!(f, "    {name}: {} -> {after}", change.before[name.as_str()])?;
            }
        }
        write!(f, "outputs that change: {:?}", self.outputs)
    }
}
