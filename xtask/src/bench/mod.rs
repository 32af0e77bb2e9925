//! `make bench`: what the provider costs, each figure as a ratio to something else measured in the
//! same run on the same machine. Nothing here fails for being slow; the aims stand beside the figures.

mod aws;
mod cached;
mod contestant;
mod cpu;
mod grpc;
mod host;
mod image;
mod measure;
mod memory;
mod nothing;
mod plan;
mod size;
mod start;
mod vm;

use anyhow::{Result, bail};

use contestant::Contestants;
use measure::Row;

/// Something that is measured.
struct Figure {
    name: &'static str,
    run: fn(&Contestants) -> Result<Vec<Row>>,
}

const FIGURES: [Figure; 11] = [
    Figure { name: "start", run: start::run },
    Figure { name: "memory", run: memory::run },
    Figure { name: "size", run: size::run },
    Figure { name: "plan", run: plan::run },
    Figure { name: "cpu", run: cpu::run },
    Figure { name: "cached", run: cached::run },
    Figure { name: "aws", run: aws::run },
    Figure { name: "builds", run: aws::builds::run },
    Figure { name: "image", run: image::run },
    Figure { name: "nothing", run: nothing::run },
    Figure { name: "vm", run: vm::run },
];

/// Measures all figures, or the one named.
///
/// # Errors
/// When there is no such figure, or something that is measured fails.
pub(crate) fn run(only: Option<&str>) -> Result<()> {
    let chosen: Vec<&Figure> =
        FIGURES.iter().filter(|figure| only.is_none_or(|name| name == figure.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        bail!("no such figure; there are {}", names.join(", "));
    }
    let contestants = Contestants::find()?;
    println!("{:<44} {:>12} {:>12} {:>8}  aim", "figure", "ours", "other", "ratio");
    for figure in chosen {
        for row in (figure.run)(&contestants)? {
            println!("{row}");
        }
    }
    Ok(())
}
