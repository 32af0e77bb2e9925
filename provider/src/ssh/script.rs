//! How commands and environments reach a guest's shell: as one line on its standard input, where no process
//! list shows them, quoted such that no value can become code.

use super::SshError;
use crate::domain::Environment;

/// What the guest's login shell is told: always the same. `read` takes no byte beyond the line, so the rest
/// of standard input is the command's own.
pub(super) const REMOTE: &str = r#"exec /bin/sh -c 'IFS= read -r sindri && eval "$sindri"'"#;

/// The text as one word for a POSIX shell, whatever is in it but NUL.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The line that sets the environment and becomes the command.
///
/// # Errors
/// When a shell cannot have such a variable, or such a command.
pub fn line(command: &str, environment: &Environment) -> Result<String, SshError> {
    if command.contains('\0') {
        return Err(SshError::Command);
    }
    // A line cannot hold a line's end, so it comes from a parameter: whatever the variables are called, it is none of them.
    let mut line = String::from(r#"set -- "$(printf '\nx')"; set -- "${1%x}"; "#);
    let plain = environment.plain.iter().map(|(name, value)| (name, value.as_str()));
    let secret = environment.secret.iter().map(|(name, value)| (name, value.expose()));
    for (name, value) in plain.chain(secret) {
        if !is_name(name) || value.contains('\0') {
            return Err(SshError::Variable { name: name.clone() });
        }
        line.push_str(&format!("export {name}={}; ", on_one_line(value)));
    }
    line.push_str(&format!("exec /bin/sh -c {}\n", on_one_line(command)));
    Ok(line)
}

fn on_one_line(text: &str) -> String {
    quote(text).replace('\n', r#"'"$1"'"#)
}

/// A portable name of a variable (POSIX, 3.235).
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::process::Secret;

    /// What a real shell makes of it, fed as sshd would.
    fn run(shell: &[&str], line: &str, rest: &str) -> String {
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", REMOTE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(format!("{line}{rest}").as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    fn environment(plain: &str, secret: &str) -> Environment {
        let mut environment = Environment::default();
        environment.plain.insert("A".into(), plain.into());
        environment.secret.insert("_b2".into(), Secret::new(secret));
        environment
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_real_shell_sees_exactly_the_values(
            a in "(?s)[^\0]{0,40}", b in r#"['"$`\\\n\r !*;&|<>(){}~#-]{0,20}"#, rest in "(?s)[^\0]{0,40}",
        ) {
            let line = line(r#"printf '%s|%s|' "$A" "$_b2"; cat"#, &environment(&a, &b)).unwrap();
            prop_assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true));
            for shell in [&["sh"][..], &["bash"], &["busybox", "sh"]] {
                prop_assert_eq!(run(shell, &line, &rest), format!("{a}|{b}|{rest}"));
            }
        }

        #[test]
        fn a_quoted_word_is_one_argument(text in "(?s)[^\0]{0,60}") {
            let output = Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(&text))).output().unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }

    #[test]
    fn commands_of_many_lines() {
        let command = "for n in 1 2\ndo\n  echo \"it's $n\"\ndone";
        let line = line(command, &Environment::default()).unwrap();
        assert_eq!(run(&["sh"], &line, ""), "it's 1\nit's 2\n");
    }

    #[test]
    fn no_name_of_a_variable_is_taken() {
        let mut environment = environment("1\n2", "");
        environment.plain.insert("sindri".into(), "a\nb".into());
        let line = line(r#"printf '%s|%s|%s' "$A" "$sindri" "$#""#, &environment).unwrap();
        for shell in [&["sh"][..], &["bash"], &["busybox", "sh"]] {
            assert_eq!(run(shell, &line, ""), "1\n2|a\nb|0");
        }
    }

    #[test]
    fn what_no_environment_can_hold_is_refused() {
        for (name, value) in [("", "x"), ("1A", "x"), ("A;reboot", "x"), ("A=B", "x"), ("A", "\0")] {
            let mut environment = Environment::default();
            environment.plain.insert(name.into(), value.into());
            assert!(matches!(line("true", &environment), Err(SshError::Variable { .. })), "{name}={value:?}");
        }
        assert!(matches!(line("a\0b", &Environment::default()), Err(SshError::Command)));
    }
}
