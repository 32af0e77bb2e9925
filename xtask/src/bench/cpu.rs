//! Processor time of the provider itself while OpenTofu plans: what the host takes is left out.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};

use super::contestant::{Contestant, Contestants};
use super::measure::{Row, medians};
use super::plan::images;

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in [100, 1000] {
        let (ours, other) = medians(
            3,
            || processor(contestants, &contestants.ours, count),
            || processor(contestants, &contestants.peer, count),
        )?;
        let name = format!("provider's CPU in a plan of {count}, against Go");
        rows.push(Row { name, ours, other, unit: "s", aim: "≤ 0.50×" });
    }
    Ok(rows)
}

/// User and system time of every process of the provider that one plan starts, in seconds.
fn processor(contestants: &Contestants, contestant: &Contestant, count: usize) -> Result<f64> {
    let folder = tempfile::Builder::new().prefix("timed-").tempdir_in(contestants.scratch())?;
    let (times, starter) =
        (folder.path().join("times"), folder.path().join(format!("terraform-provider-{}", contestant.name)));
    // bash's `time` adds up what the kernel says of the finished child; its own report goes to a file.
    let script = format!(
        "#!/bin/bash\nTIMEFORMAT='%3U %3S'\nexec 4>&2 2>>{times:?}\ntime {:?} \"$@\" 2>&4\n",
        contestant.binary
    );
    fs::write(&starter, script)?;
    fs::set_permissions(&starter, fs::Permissions::from_mode(0o755))?;

    let timed = contestant.behind(folder.path().to_owned());
    contestants.workspace(&timed, &images(contestant.name, count))?.run(&["plan"])?;
    let report = fs::read_to_string(&times).context("the provider was killed before its time was taken")?;
    let values = report.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>();
    let values = values.with_context(|| format!("not times: {report:?}"))?;
    ensure!(!values.is_empty(), "no time was taken");
    Ok(values.iter().sum())
}
