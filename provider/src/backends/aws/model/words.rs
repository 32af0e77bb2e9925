//! What words in `aws = { … }` may be.

use std::net::IpAddr;

use tfplugin::Attr;

use crate::domain::names;
use crate::domain::rules::one_of;

/// A word: an id, a name, an ARN.
pub(super) fn word(text: &str) -> Result<(), String> {
    names::text(text)?;
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("must not be empty or contain spaces".into());
    }
    Ok(())
}

/// Whether a list says nothing: there is none, or nothing is in it. One that is not known yet may have something.
pub(super) fn is_none(list: &Attr<Vec<String>>) -> bool {
    list.is_null() || list.known().is_some_and(Vec::is_empty)
}

/// Whether a list has something.
pub(super) fn is_some(list: &Attr<Vec<String>>) -> bool {
    list.known().is_some_and(|list| !list.is_empty())
}

/// Whether instance metadata need session tokens.
pub(super) fn imdsv2(value: &str) -> Result<(), String> {
    one_of(value, &["required", "optional"])
}

/// EBS's words. A root volume cannot be of its other types, st1 and sc1.
pub(super) fn volume_type(value: &str) -> Result<(), String> {
    one_of(value, &["gp3", "gp2", "io1", "io2", "standard"])
}

/// Networks.
pub(super) fn cidrs(values: &[String]) -> Result<(), String> {
    values.iter().try_for_each(|value| cidr(value))
}

/// A network as EC2 itself writes it, so that it is known again.
fn cidr(value: &str) -> Result<(), String> {
    let no_network = || format!("{value:?} is no network: write one such as \"203.0.113.7/32\"");
    let (address, bits) = value.split_once('/').ok_or_else(no_network)?;
    let address: IpAddr = address.parse().map_err(|_| no_network())?;
    let bits: u32 = bits.parse().map_err(|_| no_network())?;
    let first = match address {
        IpAddr::V4(four) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::from((u32::from(four) & mask).to_be_bytes())
        }
        IpAddr::V6(six) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::from((u128::from(six) & mask).to_be_bytes())
        }
        _ => return Err(no_network()),
    };
    let canonical = format!("{first}/{bits}");
    if canonical == value { Ok(()) } else { Err(format!("{value:?} is written {canonical:?} as a network")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_none() {
        let list = |words: &[&str]| Attr::Known(words.iter().map(|word| (*word).to_owned()).collect());
        for (list, none, some) in [
            (Attr::Null, true, false),
            (list(&[]), true, false),
            (list(&["sg-1"]), false, true),
            (Attr::Unknown, false, false),
        ] {
            assert_eq!((is_none(&list), is_some(&list)), (none, some), "{list:?}");
        }
    }

    #[test]
    fn networks() {
        for good in ["203.0.113.7/32", "0.0.0.0/0", "2001:db8::/32"] {
            assert_eq!(cidr(good), Ok(()), "{good}");
        }
        for bad in ["", "203.0.113.7", "203.0.113.7/33", "x/8", "2001:db8::/129"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
        for (given, meant) in [("10.1.2.3/8", "10.0.0.0/8"), ("2001:DB8:0::1/32", "2001:db8::/32")] {
            assert!(cidr(given).unwrap_err().contains(meant), "{given}");
        }
    }
}
