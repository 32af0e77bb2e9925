//! What a user downloads.

use std::path::Path;

use anyhow::Result;

use super::contestant::Contestants;
use super::measure::Row;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let (ours, other) = (mebibytes(&contestants.ours.binary)?, mebibytes(&contestants.peer.binary)?);
    Ok(vec![Row { name: "binary size, against Go".into(), ours, other, unit: "MiB", aim: "" }])
}

fn mebibytes(file: &Path) -> Result<f64> {
    let bytes = std::fs::metadata(file)?.len();
    // A binary is far below 2^52 bytes.
    #[allow(clippy::cast_precision_loss)]
    Ok(bytes as f64 / f64::from(1 << 20))
}
