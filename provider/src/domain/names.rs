//! What may be a name: of an image, a machine, a variable, a tag. Each check tells what is wrong in words
//! for the person who wrote it.

/// The longest prefix or name: with key and build digits it stays within every cloud's limit.
const LONGEST_NAME: usize = 63;

/// A name that every backend takes: letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
///
/// # Errors
/// What is wrong with it.
pub fn object(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 {
        return Err("must not be empty".into());
    }
    if length > LONGEST_NAME {
        return Err(format!("has {length} characters; at most {LONGEST_NAME} are possible"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!("contains {bad:?}; letters, digits, '.', '_' and '-' are possible"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("must begin with a letter or a digit".into());
    }
    Ok(())
}

/// The name of an environment variable.
///
/// # Errors
/// What is wrong with it.
pub fn variable(name: &str) -> Result<(), String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(first) && name.chars().all(rest) {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a variable's name: letters, digits and '_' are possible, not beginning with a digit"
    ))
}

/// The value of an environment variable, a command, a script: anything that a program can be given.
///
/// # Errors
/// When it holds a NUL character.
pub fn text(value: &str) -> Result<(), String> {
    if value.contains('\0') { Err("must not contain a NUL character".into()) } else { Ok(()) }
}

/// A user in the guest, or `user:group`.
///
/// # Errors
/// What is wrong with it.
pub fn owner(name: &str) -> Result<(), String> {
    let mut parts = name.splitn(2, ':');
    parts.try_for_each(user)
}

/// A user in the guest.
///
/// # Errors
/// What is wrong with it.
pub fn user(name: &str) -> Result<(), String> {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    if (1..=32).contains(&name.len()) && name.starts_with(first) && name.chars().all(rest) {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a user's name: up to 32 lower-case letters, digits, '_', '-' and '.' are possible"
    ))
}

/// An absolute path in the guest, without `..`.
///
/// # Errors
/// What is wrong with it.
pub fn guest_path(path: &str) -> Result<(), String> {
    text(path)?;
    if !path.starts_with('/') {
        return Err(format!("{path:?} must be an absolute path, beginning with '/'"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!("{path:?} must not contain '..'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        for good in ["a", "dev-1", "A.b_c-9", "0"] {
            assert_eq!(object(good), Ok(()), "{good}");
        }
        let long = "x".repeat(10_000);
        for bad in ["", "-a", ".a", "a/b", "a\nb", "a\"b", "a'b", "$(reboot)", "a b", "ä", "../x", &long] {
            assert!(object(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_variables() {
        for good in ["A", "_", "a1", "PATH_2"] {
            assert_eq!(variable(good), Ok(()), "{good}");
        }
        for bad in ["", "1A", "A-B", "A=B", "A B", "Ä", "A\n", "A\0"] {
            assert!(variable(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn owners() {
        for good in ["root", "www-data:www-data", "_apt"] {
            assert_eq!(owner(good), Ok(()), "{good}");
        }
        for bad in ["", "Root", "a:b:c", "a:", ":b", "a b", "$(id)"] {
            assert!(owner(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_in_the_guest() {
        for good in ["/", "/etc/motd", "/a b/$(x)", "/a..b"] {
            assert_eq!(guest_path(good), Ok(()), "{good}");
        }
        for bad in ["", "etc", "./x", "/a/../b", "/a\0b"] {
            assert!(guest_path(bad).is_err(), "{bad:?}");
        }
    }
}
