//! Numbers of any size, compared by value and kept to the last digit.

use std::fmt;
use std::str::FromStr;

use bigdecimal::{BigDecimal, ToPrimitive};

/// Enough for every 64-bit float written out, and for the 512 bits that hosts compute with.
const MAX_DIGITS: u64 = 1_200;
/// A bound on the power of ten, so that a short text cannot ask for a huge number.
const MAX_EXPONENT: i64 = 4_096;
/// No number within the bounds needs a longer text.
const MAX_TEXT: usize = 6_000;

/// A number as hosts know it: whole or decimal, of any size within reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(Repr);

/// Nearly every number is a small whole one: those cost no allocation.
#[derive(Debug, Clone)]
enum Repr {
    Int(i64),
    Big(Box<BigDecimal>),
}

/// Text that is no number, or one out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text is no decimal number.
    #[error("not a decimal number")]
    Syntax,
    /// It has too many digits or too large an exponent.
    #[error("the number has more than {MAX_DIGITS} digits or a power of ten beyond ±{MAX_EXPONENT}")]
    TooLarge,
    /// An infinity or not-a-number.
    #[error("infinite, or not a number")]
    NotFinite,
}

impl Number {
    /// The number as a whole one, if it is whole and fits.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Repr::Int(int) => Some(*int),
            Repr::Big(_) => None,
        }
    }

    /// The number as an unsigned whole one, if it is whole and fits.
    pub fn to_u64(&self) -> Option<u64> {
        match &self.0 {
            Repr::Int(int) => u64::try_from(*int).ok(),
            Repr::Big(big) if big.is_integer() => big.to_u64(),
            Repr::Big(_) => None,
        }
    }

    /// The nearest float.
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            #[allow(clippy::cast_precision_loss)]
            Repr::Int(int) => *int as f64,
            // A decimal always parses as a float, be it as an infinity.
            Repr::Big(_) => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    /// The float's exact binary value, all digits of it: what a host means when it sends a float.
    ///
    /// # Errors
    /// [`NumberError::NotFinite`].
    pub fn from_f64_exact(float: f64) -> Result<Self, NumberError> {
        BigDecimal::try_from(float).map(|big| Self::from_big(&big)).map_err(|_| NumberError::NotFinite)
    }

    /// The shortest decimal that reads as this float: what a person means by `0.1`.
    ///
    /// # Errors
    /// [`NumberError::NotFinite`].
    pub fn from_f64(float: f64) -> Result<Self, NumberError> {
        if !float.is_finite() {
            return Err(NumberError::NotFinite);
        }
        format!("{float:e}").parse()
    }

    /// The float that has exactly this value, if there is one.
    pub(crate) fn to_exact_f64(&self) -> Option<f64> {
        let float = self.to_f64();
        (Self::from_f64_exact(float).as_ref() == Ok(self)).then_some(float)
    }

    /// Whole numbers that fit are always `Int`, so that comparing `Repr`s compares values.
    fn from_big(big: &BigDecimal) -> Self {
        match big.is_integer().then(|| big.to_i64()).flatten() {
            Some(int) => Self(Repr::Int(int)),
            None => Self(Repr::Big(Box::new(big.normalized()))),
        }
    }
}

impl Repr {
    fn to_big(&self) -> std::borrow::Cow<'_, BigDecimal> {
        match self {
            Self::Int(int) => std::borrow::Cow::Owned(BigDecimal::from(*int)),
            Self::Big(big) => std::borrow::Cow::Borrowed(big),
        }
    }
}

impl Ord for Repr {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => left.cmp(right),
            _ => self.to_big().cmp(&other.to_big()),
        }
    }
}

impl PartialOrd for Repr {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Repr {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Repr {}

impl std::hash::Hash for Repr {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        match self {
            Self::Int(int) => int.hash(state),
            // Normalised, so equal values have equal digits and scale.
            Self::Big(big) => big.as_bigint_and_exponent().hash(state),
        }
    }
}

impl FromStr for Number {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        if let Ok(int) = text.parse() {
            return Ok(Self(Repr::Int(int)));
        }
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-')) {
            return Err(NumberError::Syntax);
        }
        let exponent: i64 = exponent.parse().map_err(|_| NumberError::Syntax)?;
        // Checked before parsing: comparing or printing writes out every zero of an exponent.
        if text.len() > MAX_TEXT || exponent.abs() > MAX_EXPONENT {
            return Err(NumberError::TooLarge);
        }
        let big = BigDecimal::from_str(text).map_err(|_| NumberError::Syntax)?.normalized();
        let (_, scale) = big.as_bigint_and_exponent();
        if big.digits() > MAX_DIGITS || scale.abs() > MAX_EXPONENT {
            return Err(NumberError::TooLarge);
        }
        Ok(Self::from_big(&big))
    }
}

impl fmt::Display for Number {
    /// In plain digits, as hosts write numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(int) => int.fmt(f),
            Repr::Big(big) => f.write_str(&big.to_plain_string()),
        }
    }
}

macro_rules! from_small_integer {
    ($($int:ty),*) => {$(
        impl From<$int> for Number {
            fn from(int: $int) -> Self {
                Self(Repr::Int(i64::from(int)))
            }
        }
    )*};
}
from_small_integer!(i64, i32, u32, u16, u8);

impl From<u64> for Number {
    fn from(int: u64) -> Self {
        Self::from_big(&BigDecimal::from(int))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn equal_by_value() {
        for (left, right) in [
            ("1", "1.0"),
            ("1e3", "1000"),
            ("0.10", "0.1"),
            ("-0", "0"),
            ("18446744073709551615.0", "18446744073709551615"),
        ] {
            assert_eq!(number(left), number(right));
        }
        assert!(number("0.1") < number("0.2"));
        assert!(number("-1e30") < number("-5"));
        assert_ne!(Number::from_f64_exact(0.1).unwrap(), number("0.1"));
        assert_eq!(Number::from_f64(0.1).unwrap(), number("0.1"));
    }

    #[test]
    fn keeps_every_digit() {
        for text in [
            "123456789012345678901234567890.123456789",
            "0.1",
            "-9223372036854775809",
            "18446744073709551615",
        ] {
            assert_eq!(number(text).to_string(), text);
        }
    }

    #[test]
    fn whole_only_if_it_is_whole_and_fits() {
        assert_eq!(number("1e3").to_i64(), Some(1000));
        assert_eq!(number("1.5").to_i64(), None);
        assert_eq!(number("9223372036854775808").to_i64(), None);
        assert_eq!(number("9223372036854775808").to_u64(), Some(1 << 63));
        assert_eq!(number("-1").to_u64(), None);
    }

    #[test]
    fn refuses_what_is_no_number_or_too_large() {
        for text in ["", "x", "1e", "0x10", "NaN", "inf", "1 ", "1_000", "--1", "."] {
            assert_eq!(text.parse::<Number>(), Err(NumberError::Syntax), "{text}");
        }
        let long = "9".repeat(1_000_000);
        for text in ["1e999999999", "1e-999999999", long.as_str()] {
            assert_eq!(text.parse::<Number>(), Err(NumberError::TooLarge));
        }
    }

    #[test]
    fn exact_floats() {
        for float in [0.5, 1e300, f64::MIN_POSITIVE, 5e-324, -123.25] {
            let exact = Number::from_f64_exact(float).unwrap();
            assert_eq!(exact.to_exact_f64(), Some(float));
        }
        assert_eq!(number("0.1").to_exact_f64(), None);
        assert_eq!(Number::from_f64_exact(f64::NAN), Err(NumberError::NotFinite));
    }
}
