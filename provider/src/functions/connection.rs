//! How to reach a machine, read from a `sindri_vm` object.

use tfplugin::{FunctionError, Value};

use crate::domain::vm::host_key_alias;

/// How to reach a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Connection {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) host: String,
    pub(super) port: u64,
    pub(super) user: String,
    pub(super) key: Option<String>,
    pub(super) known_hosts: Option<KnownHost>,
}

/// Where the machine's host key is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownHost {
    pub(super) file: String,
    /// The name under which it stands there, for all machines share the address.
    pub(super) alias: String,
}

impl Connection {
    /// Reads what a `sindri_vm` has in state. A value that could break out of a line of configuration is
    /// refused.
    pub(super) fn of(vm: &Value) -> Result<Self, FunctionError> {
        let vm = vm.untyped();
        if vm.as_object().is_none() {
            return Err(wrong(format!("a sindri_vm was expected, not {}", vm.kind())));
        }
        let known_hosts = text(vm, "ssh_known_hosts_path")?;
        let known_hosts = known_hosts.map(|file| {
            let id = text(vm, "id")?.ok_or_else(|| missing("id"))?;
            Ok(KnownHost { file, alias: host_key_alias(id) })
        });
        let port = vm.get("ssh_port").and_then(|value| value.untyped().as_number()?.to_u64());
        Ok(Self {
            name: text(vm, "name")?.ok_or_else(|| missing("name"))?,
            id: text(vm, "id")?,
            host: text(vm, "ssh_host")?.ok_or_else(|| missing("ssh_host"))?,
            port: port.ok_or_else(|| missing("ssh_port"))?,
            user: text(vm, "ssh_username")?.ok_or_else(|| missing("ssh_username"))?,
            key: text(vm, "ssh_private_key_path")?,
            known_hosts: known_hosts.transpose()?,
        })
    }
}

fn text(vm: &Value, name: &str) -> Result<Option<String>, FunctionError> {
    let Some(text) = vm.get(name).and_then(|value| value.untyped().as_str()) else { return Ok(None) };
    if text.chars().any(|c| c.is_control() || c == '"') {
        return Err(wrong(format!("{name} holds a quote or a control character")));
    }
    Ok(Some(text.to_owned()))
}

fn missing(name: &str) -> FunctionError {
    wrong(format!("a sindri_vm was expected, and this object has no {name}"))
}

fn wrong(text: String) -> FunctionError {
    FunctionError::argument(0, text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn vm(changes: &[(&str, Value)]) -> Value {
        let mut entries = vec![
            ("name", Value::from("dev")),
            ("id", "00000000-0000-0000-0000-000000000007".into()),
            ("ssh_host", "127.0.0.1".into()),
            ("ssh_port", Value::from(2222_i64)),
            ("ssh_username", "sindri".into()),
            ("ssh_private_key_path", "/data/my vms/id_ed25519".into()),
            ("ssh_known_hosts_path", "/data/known_hosts".into()),
        ];
        for (name, value) in changes {
            entries.retain(|(known, _)| known != name);
            entries.push((name, value.clone()));
        }
        Value::object(entries)
    }

    #[test]
    fn what_is_no_machine_is_refused() {
        let cases = [
            (Value::from("dev"), "a sindri_vm was expected, not a string"),
            (vm(&[("ssh_port", Value::Null)]), "a sindri_vm was expected, and this object has no ssh_port"),
            (vm(&[("name", "a\nProxyCommand x".into())]), "name holds a quote or a control character"),
            (
                vm(&[("ssh_private_key_path", "a\" b".into())]),
                "ssh_private_key_path holds a quote or a control character",
            ),
        ];
        for (value, message) in cases {
            assert_eq!(Connection::of(&value).unwrap_err().text, message);
        }
    }

    #[test]
    fn a_machine_of_the_users_own_key_is_fine() {
        let connection = Connection::of(&vm(&[("ssh_private_key_path", Value::Null)])).unwrap();
        assert_eq!(connection.key, None);
        assert_eq!(connection.port, 2222);
    }
}
