//! What values may be, where a word or a number is enough to say it. Names have rules of their own: [`super::names`].

/// One of these words.
///
/// # Errors
/// Those that are possible.
pub fn one_of(value: &str, possible: &[&str]) -> Result<(), String> {
    if possible.contains(&value) {
        return Ok(());
    }
    let quoted: Vec<String> = possible.iter().map(|word| format!("{word:?}")).collect();
    let words = match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    };
    Err(format!("{value:?} is not possible: use {words}"))
}

/// 1 or more.
///
/// # Errors
/// That it is less.
pub fn positive(value: &u32) -> Result<(), String> {
    if *value > 0 { Ok(()) } else { Err("must be at least 1".into()) }
}

/// A port, of TCP or UDP, on which something can listen.
///
/// # Errors
/// That it is none.
pub fn port(value: &u16) -> Result<(), String> {
    if *value > 0 { Ok(()) } else { Err("must be from 1 to 65535".into()) }
}

/// A processor's name in the words of clouds and distributions.
///
/// # Errors
/// Those that are possible.
pub fn arch(value: &str) -> Result<(), String> {
    one_of(value, &["x86_64", "arm64"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_possible_is_told() {
        assert_eq!(one_of("a", &["a", "b"]), Ok(()));
        let cases: [(&[&str], &str); 3] =
            [(&["a"], "\"a\""), (&["a", "b"], "\"a\" or \"b\""), (&["a", "b", "c"], "\"a\", \"b\" or \"c\"")];
        for (possible, words) in cases {
            assert_eq!(one_of("x", possible), Err(format!("\"x\" is not possible: use {words}")));
        }
        assert_eq!((positive(&1), positive(&0)), (Ok(()), Err("must be at least 1".into())));
        assert_eq!((port(&1), port(&0)), (Ok(()), Err("must be from 1 to 65535".into())));
    }
}
