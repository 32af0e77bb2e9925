//! `provider::sindri::ansible_inventory(vms)`.

use tfplugin::{Function, FunctionError, FunctionSignature, Parameter, Type, Value};

use super::connection::Connection;

/// The function.
#[derive(Debug)]
pub struct AnsibleInventory;

impl Function for AnsibleInventory {
    fn name(&self) -> &'static str {
        "ansible_inventory"
    }

    fn signature(&self) -> FunctionSignature {
        FunctionSignature {
            parameters: vec![Parameter::new("vms", Type::Dynamic, "A list or a map of `sindri_vm`s, or one of them.")],
            variadic: None,
            returns: Type::String,
            summary: "An Ansible inventory in YAML".into(),
            description: "Returns an Ansible inventory in YAML with the machines' names, addresses, ports, users, keys and known host keys. To a name that several of them have, their ids are added.".into(),
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let vms = arguments.first().unwrap_or(&Value::Null).untyped();
        let machines = machines(vms)?;
        Ok(Value::from(inventory(&machines)))
    }
}

fn machines(vms: &Value) -> Result<Vec<Connection>, FunctionError> {
    if let Some(list) = vms.as_list() {
        return list.iter().map(Connection::of).collect();
    }
    match vms.as_object() {
        Some(object) if object.contains_key("ssh_host") => Ok(vec![Connection::of(vms)?]),
        Some(object) => object.values().map(Connection::of).collect(),
        None => Err(FunctionError::argument(
            0,
            format!("a list or a map of sindri_vms was expected, not {}", vms.kind()),
        )),
    }
}

fn inventory(machines: &[Connection]) -> String {
    if machines.is_empty() {
        return "all:\n  hosts: {}\n".to_owned();
    }
    let mut text = "all:\n  hosts:\n".to_owned();
    for machine in machines {
        // Two entries of one name are one host for Ansible.
        let shared = machines.iter().filter(|other| other.name == machine.name).count() > 1;
        let name = match machine.id.as_deref().filter(|_| shared) {
            Some(id) => format!("{}-{id}", machine.name),
            None => machine.name.clone(),
        };
        text.push_str(&format!(
            "    {}:\n      ansible_host: {}\n      ansible_port: {}\n      ansible_user: {}\n",
            scalar(&name),
            scalar(&machine.host),
            machine.port,
            scalar(&machine.user)
        ));
        if let Some(key) = &machine.key {
            text.push_str(&format!("      ansible_ssh_private_key_file: {}\n", scalar(key)));
        }
        if let Some(known_hosts) = &machine.known_hosts {
            // Ansible splits this as a shell would.
            let file = known_hosts.file.replace('\'', "'\\''");
            let alias = known_hosts.alias.replace('\'', "'\\''");
            let options = format!(
                "-o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o HashKnownHosts=no -o 'HostKeyAlias={alias}' -o 'UserKnownHostsFile=\"{file}\"'"
            );
            text.push_str(&format!("      ansible_ssh_common_args: {}\n", scalar(&options)));
        }
    }
    text
}

/// A JSON string is a YAML scalar whatever it holds.
fn scalar(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::vm;
    use super::*;

    fn call(vms: Value) -> String {
        AnsibleInventory.call(vec![vms]).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn an_inventory_that_ansible_understands() {
        insta::assert_snapshot!(call(Value::List(vec![vm(&[])])), @r#"
        all:
          hosts:
            "dev":
              ansible_host: "127.0.0.1"
              ansible_port: 2222
              ansible_user: "sindri"
              ansible_ssh_private_key_file: "/data/my vms/id_ed25519"
              ansible_ssh_common_args: "-o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o HashKnownHosts=no -o 'HostKeyAlias=sindri-00000000-0000-0000-0000-000000000007' -o 'UserKnownHostsFile=\"/data/known_hosts\"'"
        "#);
    }

    #[test]
    fn a_list_a_map_and_a_single_machine_say_the_same() {
        let list = call(Value::List(vec![vm(&[])]));
        assert_eq!(call(Value::object([("a", vm(&[]))])), list);
        assert_eq!(call(vm(&[])), list);
        assert_eq!(call(Value::List(Vec::new())), "all:\n  hosts: {}\n");
    }

    #[test]
    fn machines_of_one_name_are_told_apart_by_their_ids() {
        let named = |name: &str, id: &str| vm(&[("name", name.into()), ("id", id.into())]);
        let all = call(Value::List(vec![named("dev", "a1"), named("web", "b2"), named("dev", "c3")]));
        let hosts: Vec<&str> = all.lines().filter(|line| line.starts_with("    \"")).map(str::trim).collect();
        assert_eq!(hosts, ["\"dev-a1\":", "\"web\":", "\"dev-c3\":"]);
    }

    #[test]
    fn anything_else_is_refused() {
        let error = AnsibleInventory.call(vec![Value::from("x")]).unwrap_err();
        assert_eq!(error.text, "a list or a map of sindri_vms was expected, not a string");
    }
}
