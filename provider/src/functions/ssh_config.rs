//! `provider::sindri::ssh_config(vm)`.

use tfplugin::{Function, FunctionError, FunctionSignature, Parameter, Type, Value};

use super::connection::Connection;

/// The function.
#[derive(Debug)]
pub struct SshConfig;

impl Function for SshConfig {
    fn name(&self) -> &'static str {
        "ssh_config"
    }

    fn signature(&self) -> FunctionSignature {
        FunctionSignature {
            parameters: vec![Parameter::new("vm", Type::Dynamic, "A `sindri_vm`.")],
            variadic: None,
            returns: Type::String,
            summary: "A Host block for ~/.ssh/config".into(),
            description: "Returns a `Host` block for an OpenSSH client's configuration, with the machine's name, port, user, key and known host key.".into(),
        }
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError> {
        let vm = Connection::of(arguments.first().unwrap_or(&Value::Null))?;
        Ok(Value::from(block(&vm)))
    }
}

fn block(vm: &Connection) -> String {
    let mut text = format!(
        "Host {}\n  HostName {}\n  Port {}\n  User {}\n",
        quoted(&vm.name),
        quoted(&vm.host),
        vm.port,
        quoted(&vm.user)
    );
    if let Some(key) = &vm.key {
        text.push_str(&format!("  IdentityFile {}\n  IdentitiesOnly yes\n", quoted(key)));
    }
    if let Some(known_hosts) = &vm.known_hosts {
        text.push_str(&format!(
            "  UserKnownHostsFile {}\n  HostKeyAlias {}\n  StrictHostKeyChecking accept-new\n  HashKnownHosts no\n",
            quoted(&known_hosts.file),
            quoted(&known_hosts.alias)
        ));
    }
    text
}

/// An argument as ssh_config(5) reads it: quotes where there is a space; `%` begins a token.
fn quoted(value: &str) -> String {
    let value = value.replace('%', "%%");
    if value.contains(' ') || value.contains('#') || value.is_empty() {
        format!("\"{value}\"")
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::tests::vm;
    use super::*;

    #[test]
    fn a_block_that_ssh_understands() {
        let text = SshConfig.call(vec![vm(&[])]).unwrap();
        insta::assert_snapshot!(text.as_str().unwrap(), @r#"
        Host dev
          HostName 127.0.0.1
          Port 2222
          User sindri
          IdentityFile "/data/my vms/id_ed25519"
          IdentitiesOnly yes
          UserKnownHostsFile /data/known_hosts
          HostKeyAlias sindri-00000000-0000-0000-0000-000000000007
          StrictHostKeyChecking accept-new
          HashKnownHosts no
        "#);
    }
}
