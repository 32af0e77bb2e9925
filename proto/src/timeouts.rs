//! The `timeouts` attribute, and durations as users write them.

use std::time::Duration;

use crate::model::Model;
use crate::value::Attr;

/// How long operations may take.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Model)]
pub struct Timeouts {
    /// How long creating may take, as in `"30m"` or `"1h30m"`.
    #[attr(optional, validate = is_duration)]
    pub create: Attr<String>,
    /// How long reading may take, as in `"30s"`.
    #[attr(optional, validate = is_duration)]
    pub read: Attr<String>,
    /// How long updating may take, as in `"30m"`.
    #[attr(optional, validate = is_duration)]
    pub update: Attr<String>,
    /// How long deleting may take, as in `"15m"`.
    #[attr(optional, validate = is_duration)]
    pub delete: Attr<String>,
}

/// An operation with a deadline of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creating the object.
    Create,
    /// Reading it.
    Read,
    /// Changing it in place.
    Update,
    /// Removing it.
    Delete,
}

impl Timeouts {
    /// How long `operation` may take, or `default` if the user did not say.
    pub fn of(timeouts: &Attr<Self>, operation: Operation, default: Duration) -> Duration {
        let attr = timeouts.known().map(|timeouts| match operation {
            Operation::Create => &timeouts.create,
            Operation::Read => &timeouts.read,
            Operation::Update => &timeouts.update,
            Operation::Delete => &timeouts.delete,
        });
        attr.and_then(Attr::known_deref).and_then(|text| parse_duration(text).ok()).unwrap_or(default)
    }
}

/// Text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not made of numbers with units.
    #[error("{0:?} is not a duration; write one like \"30s\", \"90m\" or \"1h30m\"")]
    Syntax(String),
    /// It is longer than a duration can be.
    #[error("{0:?} is too long a duration")]
    TooLong(String),
}

/// Reads a duration in Go's notation: decimal numbers with the units `h`, `m`, `s`, `ms`, `us`, `ns`.
/// Negative ones are refused.
///
/// # Errors
/// [`DurationError`], with the text.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let shown = || text.chars().take(80).collect::<String>();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(DurationError::Syntax(shown()));
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let (part, after) = split_part(rest).ok_or_else(|| DurationError::Syntax(shown()))?;
        total =
            part.and_then(|part| total.checked_add(part)).ok_or_else(|| DurationError::TooLong(shown()))?;
        rest = after;
    }
    Ok(total)
}

/// Splits the first number and unit off; the inner `None` is a duration out of range.
fn split_part(text: &str) -> Option<(Option<Duration>, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
    let (number, rest) = text.split_at(digits);
    let unit_end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let nanos: u128 = match unit {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" | "μs" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    Some((amount(whole, fraction, nanos), rest))
}

fn amount(whole: &str, fraction: &str, nanos: u128) -> Option<Duration> {
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond a nanosecond's share of any unit change nothing.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let total = whole.checked_mul(nanos)?.checked_add(fraction * nanos / scale)?;
    Some(Duration::from_nanos(u64::try_from(total).ok()?))
}

/// A validator for attributes that hold a duration.
///
/// # Errors
/// [`DurationError`] as text.
pub fn is_duration(text: &str) -> Result<(), String> {
    parse_duration(text).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        let cases = [
            ("0", 0),
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("2s300ms", 2_300),
            ("1000000us", 1_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "30", "m", "-1m", "1d", "1h 30m", "1..5s", ".s", "1m30", "£1m"] {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax(text.to_owned())), "{text}");
        }
        assert!(matches!(parse_duration("9999999999999h"), Err(DurationError::TooLong(_))));
        assert!(matches!(parse_duration(&"9".repeat(100_000)), Err(DurationError::Syntax(_))));
    }

    #[test]
    fn an_operation_without_a_timeout_gets_the_default() {
        let timeouts = Attr::Known(Timeouts { create: "5m".into(), ..Timeouts::default() });
        let default = Duration::from_secs(1);
        assert_eq!(Timeouts::of(&timeouts, Operation::Create, default), Duration::from_mins(5));
        assert_eq!(Timeouts::of(&timeouts, Operation::Delete, default), default);
        assert_eq!(Timeouts::of(&Attr::Null, Operation::Create, default), default);
    }
}
