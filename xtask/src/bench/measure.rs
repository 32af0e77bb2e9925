//! Running a thing several times, and a line of the result.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

/// One figure: ours, the other's, and what we aim at.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours: f64,
    pub(crate) other: f64,
    /// How a value is written: `s`, `MiB`.
    pub(crate) unit: &'static str,
    pub(crate) aim: &'static str,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: f64| format!("{value:.3} {}", self.unit);
        let ratio = self.ours / self.other;
        write!(
            f,
            "{:<44} {:>12} {:>12} {ratio:>7.2}×  {}",
            self.name,
            value(self.ours),
            value(self.other),
            self.aim
        )
    }
}

/// Median of several values of two things, taken in turns so that both see the same machine.
pub(crate) fn medians(
    times: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut other: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..times {
        first.push(ours()?);
        second.push(other()?);
    }
    Ok((median(first), median(second)))
}

/// The middle value; of an even number, the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds that something takes.
pub(crate) fn seconds(what: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    what()?;
    Ok(Duration::as_secs_f64(&start.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted() {
        for (values, middle) in
            [(vec![3.0, 1.0, 2.0], 2.0), (vec![5.0], 5.0), (vec![4.0, 1.0, 3.0, 2.0], 3.0)]
        {
            assert!((median(values) - middle).abs() < f64::EPSILON);
        }
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn a_row_shows_both_values_their_ratio_and_the_aim() {
        let row = Row { name: "idle memory".into(), ours: 6.0, other: 24.0, unit: "MiB", aim: "≤ 0.75×" };
        let words: Vec<String> = row.to_string().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words.join(" "), "idle memory 6.000 MiB 24.000 MiB 0.25× ≤ 0.75×");
    }
}
