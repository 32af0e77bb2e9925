//! Our declarations against upstream's: `protos/upstream.txt` lists every message, field, enum and method as
//! the hosts' own files declare them, read with the same lister from OpenTofu 1.12.6
//! (tfplugin6.10.proto) and go-plugin 1.7.0.

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet, ServiceDescriptorProto};

const OURS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const UPSTREAM: &str = include_str!("../../protos/upstream.txt");

#[test]
fn names_numbers_and_types_are_upstreams() {
    let descriptors = FileDescriptorSet::decode(OURS).unwrap();
    let mut lines = Vec::new();
    for file in descriptors.file.iter().filter(|file| ["tfplugin6", "plugin"].contains(&file.package())) {
        file.message_type.iter().for_each(|message| list_message(file.package(), message, &mut lines));
        file.enum_type.iter().for_each(|it| list_enum(file.package(), it, &mut lines));
        file.service.iter().for_each(|service| list_service(file.package(), service, &mut lines));
    }
    lines.sort();
    let upstream: Vec<_> = UPSTREAM.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(upstream.len() > 300, "the list of upstream's declarations is not whole");
    let missing: Vec<_> = upstream.iter().filter(|line| !lines.iter().any(|ours| ours == *line)).collect();
    let extra: Vec<_> = lines.iter().filter(|line| !upstream.contains(&line.as_str())).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}

fn list_message(scope: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    let scope = format!("{scope}.{}", message.name());
    lines.push(format!("message {scope}"));
    for field in &message.field {
        let ty = if field.type_name().is_empty() { field.r#type().as_str_name() } else { field.type_name() };
        let optional = if field.proto3_optional() { " optional" } else { "" };
        let oneof = match field.oneof_index {
            Some(index) if !field.proto3_optional() => {
                format!(" of {}", message.oneof_decl[usize::try_from(index).unwrap()].name())
            }
            _ => String::new(),
        };
        let label = if field.label() == prost_types::field_descriptor_proto::Label::Repeated {
            " repeated"
        } else {
            ""
        };
        lines.push(format!("{scope}.{} = {}: {ty}{label}{optional}{oneof}", field.name(), field.number()));
    }
    message.nested_type.iter().for_each(|nested| list_message(&scope, nested, lines));
    message.enum_type.iter().for_each(|nested| list_enum(&scope, nested, lines));
}

fn list_enum(scope: &str, it: &EnumDescriptorProto, lines: &mut Vec<String>) {
    lines.extend(
        it.value
            .iter()
            .map(|value| format!("enum {scope}.{}.{} = {}", it.name(), value.name(), value.number())),
    );
}

fn list_service(scope: &str, service: &ServiceDescriptorProto, lines: &mut Vec<String>) {
    for method in &service.method {
        let stream = |streaming| if streaming { "stream " } else { "" };
        lines.push(format!(
            "rpc {scope}.{}.{}({}{}) returns ({}{})",
            service.name(),
            method.name(),
            stream(method.client_streaming()),
            method.input_type(),
            stream(method.server_streaming()),
            method.output_type(),
        ));
    }
}
