//! Taking over a `packer_image` of the provider toowoxx/packer by a `moved` block.
//!
//! Such an object has what its user asked for, and nothing of what was built: that stays as it is, and nobody here knows of
//! it. Nothing is built again until something that counts for the key changes; from then on the artifacts are known.
//!
//! Source of its schema: `provider/resource_packer_image.go` in <https://github.com/toowoxx/terraform-provider-packer>.

use std::collections::BTreeMap;
use std::path::Path;

use tfplugin::{Attr, Diagnostic, Diagnostics, MovedFrom, State, Value};

use super::model::{ImageModel, Origin};
use super::private::Private;
use crate::backends::template;
use crate::backends::template::model::PackerImageModel;
use crate::domain::names;

/// The object as a `sindri_image`; none when it is of another type or provider.
///
/// # Errors
/// When its state is not what that provider writes.
pub(super) fn take_over(source: &MovedFrom) -> Result<Option<State<ImageModel>>, Diagnostics> {
    if source.type_name != "packer_image" || !source.provider.ends_with("/toowoxx/packer") {
        return Ok(None);
    }
    let Some(id) = text(&source.state, "id") else {
        let problem =
            "The state of the `packer_image` has no id. Remove it from the state: the next apply builds.";
        return Err(Diagnostic::error("Move not possible", problem).into());
    };
    let directory = text(&source.state, "directory").filter(|it| !it.is_empty());
    let file = text(&source.state, "file").filter(|it| !it.is_empty());
    let directory = directory.unwrap_or_else(|| ".".to_owned());
    let template = Path::new(&directory).join(file.unwrap_or_else(|| ".".to_owned()));
    let packer = PackerImageModel {
        template: template.display().to_string().into(),
        directory: directory.into(),
        variables: map(&source.state, "variables"),
        force: flag(&source.state, "force"),
        ..PackerImageModel::default()
    };
    let name = text(&source.state, "name").filter(|name| names::object(name).is_ok());
    let model = ImageModel {
        name_prefix: name.into(),
        triggers: map(&source.state, "triggers"),
        packer: Attr::Known(packer),
        id: id.as_str().into(),
        image_id: id.as_str().into(),
        cloud: template::CLOUD.into(),
        region: template::REGION.into(),
        origin: Origin::Imported.name().into(),
        artifacts: Attr::Known(BTreeMap::new()),
        packer_artifacts: Attr::Known(Vec::new()),
        tags_all: Attr::Known(BTreeMap::new()),
        ..ImageModel::default()
    };
    let private = Private { imported: true, moved: true, ..Private::default() };
    Ok(Some(State { model, private: Some(private.write()) }))
}

fn text(state: &Value, name: &str) -> Option<String> {
    match state.get(name)? {
        Value::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn flag(state: &Value, name: &str) -> Attr<bool> {
    match state.get(name) {
        Some(Value::Bool(flag)) => Attr::Known(*flag),
        _ => Attr::Null,
    }
}

fn map(state: &Value, name: &str) -> Attr<BTreeMap<String, String>> {
    let Some(Value::Object(entries)) = state.get(name) else { return Attr::Null };
    let text = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some((name.clone(), text.to_string())),
        _ => None,
    };
    Attr::Known(entries.iter().filter_map(text).collect())
}

#[cfg(test)]
mod tests {
    use tfplugin::value::json;

    use super::*;

    fn moved(provider: &str, type_name: &str, state: &str) -> MovedFrom {
        MovedFrom {
            provider: provider.to_owned(),
            type_name: type_name.to_owned(),
            version: 0,
            state: json::decode_untyped(state.as_bytes()).unwrap(),
        }
    }

    #[test]
    fn what_was_asked_for_is_taken_over() {
        let state = r#"{"id": "5f", "name": "web", "file": "web.pkr.hcl", "directory": "images", "force": true,
            "variables": {"a": "1"}, "triggers": {"t": "x"}, "environment": {"SECRET": "s"}, "build_uuid": "u",
            "additional_params": ["-var=x=y"], "ignore_environment": null}"#;
        let source = moved("registry.opentofu.org/toowoxx/packer", "packer_image", state);
        let State { model, private } = take_over(&source).unwrap().unwrap();
        let packer = model.packer.known().unwrap();
        assert_eq!(packer.template.known_deref(), Some("images/web.pkr.hcl"));
        assert_eq!(packer.directory.known_deref(), Some("images"));
        assert_eq!((packer.force.known(), packer.variables.known().unwrap().len()), (Some(&true), 1));
        assert_eq!((model.id.known_deref(), model.name_prefix.known_deref()), (Some("5f"), Some("web")));
        assert!(model.cache_key.is_null() && Private::read(&private.unwrap()).moved);
    }

    #[test]
    fn others_are_not() {
        for (provider, type_name, state, taken) in [
            ("registry.terraform.io/toowoxx/packer", "packer_image", r#"{"id": "5f"}"#, Ok(true)),
            ("registry.terraform.io/toowoxx/packer", "packer_build", r#"{"id": "5f"}"#, Ok(false)),
            ("registry.terraform.io/evil/packer", "packer_image", r#"{"id": "5f"}"#, Ok(false)),
            ("registry.terraform.io/toowoxx/packer", "packer_image", r#"{"id": 7}"#, Err(())),
            ("registry.terraform.io/toowoxx/packer", "packer_image", "[]", Err(())),
            ("registry.terraform.io/toowoxx/packer", "packer_image", "null", Err(())),
        ] {
            let told = take_over(&moved(provider, type_name, state));
            assert_eq!(told.map(|it| it.is_some()).map_err(drop), taken, "{provider} {type_name} {state}");
        }
    }
}
