//! An AMI's name.

use uuid::Uuid;

use super::BuildError;
use crate::domain::CacheKey;
use crate::domain::image::name_of;

/// The name of a build's AMI, if EC2 takes it.
pub(super) fn of(prefix: &str, key: &CacheKey, id: Uuid) -> Result<String, BuildError> {
    let name = name_of(prefix, key, id);
    check(&name).map_err(|problem| BuildError::refused("name_prefix", problem))?;
    Ok(name)
}

/// EC2's rule (`CreateImage`, `Name`): 3 to 128 letters, digits, and `()[] ./-'@_`.
fn check(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c);
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "an AMI would be named {name:?}, and EC2 does not take {bad:?} in a name: use letters, digits and ()[] ./-'@_"
        ));
    }
    match name.len() {
        3..=128 => Ok(()),
        long => {
            Err(format!("an AMI would be named {name:?}, with {long} characters, and EC2 takes 3 to 128"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_ec2_takes() {
        for (name, good) in [
            ("web-0123456789ab-012345", true),
            ("a(b)[c] d./-'@_", true),
            ("ab", false),
            ("web:1", false),
            ("wéb", false),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
        ] {
            assert_eq!(check(name).is_ok(), good, "{name}");
        }
    }
}
