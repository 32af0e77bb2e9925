//! For tests: every text that a user can write into `aws = { … }`, as the schema tells.

use std::collections::BTreeMap;

use tfplugin::{Attribute, AttributeType, Model, Type, Value};

use super::AwsImageModel;
use crate::backends::aws::image::AwsImageSpec;

/// An image for each place in the schema where there is text, with this text there; by the place's path. Nothing is checked.
pub(in crate::backends::aws) fn with_text(text: &str) -> Vec<(String, AwsImageSpec)> {
    let all = places(&AwsImageModel::attributes(), text).into_iter();
    let spec = |aws: Value| {
        let mut model: AwsImageModel = tfplugin::model::decode(&aws).unwrap();
        if model.ssh_bastion_host.is_null() {
            model.ssh_bastion_host = "bastion".into();
        }
        model.spec("us-west-2")
    };
    all.map(|(path, aws)| (path, spec(aws))).collect()
}

fn places(attributes: &[Attribute], text: &str) -> Vec<(String, Value)> {
    let nothing: BTreeMap<_, _> = attributes.iter().map(|one| (one.name.to_owned(), Value::Null)).collect();
    let within = |name: &str, value: Value| {
        let mut all = nothing.clone();
        all.insert(name.to_owned(), value);
        Value::Object(all)
    };
    let mut all = Vec::new();
    for Attribute { name, ty, .. } in attributes {
        let value = || Value::String(text.to_owned());
        match ty {
            AttributeType::Simple(Type::Bool | Type::Number) => {}
            AttributeType::Simple(Type::String) => all.push(((*name).to_owned(), within(name, value()))),
            AttributeType::Simple(_) => {
                all.push(((*name).to_owned(), within(name, Value::List(vec![value()]))));
            }
            AttributeType::Nested { attributes, .. } => {
                let nested = places(attributes, text).into_iter();
                all.extend(nested.map(|(path, value)| (format!("{name}.{path}"), within(name, value))));
            }
        }
    }
    all
}
