//! Applying an image that is there already, against a provider whose apply does nothing at all.

use anyhow::Result;

use super::contestant::{Contestant, Contestants};
use super::measure::{Row, medians, seconds};

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let suite = acceptance_tests::suite()?;
    let builder = contestants.workspace(&contestants.ours, &image("sindri", &suite))?;
    builder.run(&["apply", "-auto-approve"])?;
    let apply = |contestant: &Contestant| {
        let workspace = contestants.workspace(contestant, &image(contestant.name, &suite))?;
        let taken = seconds(|| workspace.run(&["apply", "-auto-approve"]).map(drop))?;
        workspace.run(&["destroy", "-auto-approve"])?;
        Ok(taken)
    };
    let measured = medians(5, || apply(&contestants.ours), || apply(&contestants.peer));
    builder.run(&["destroy", "-auto-approve"])?;
    let (ours, other) = measured?;
    let name = "apply of a cached image, against nothing".to_owned();
    Ok(vec![Row { name, ours, other, unit: "s", aim: "within 0.2 s" }])
}

fn image(provider: &str, suite: &str) -> String {
    format!(
        r#"
resource "{provider}_image" "cached" {{
  name_prefix = "bench-cached"
  qemu        = {{ base = {{ bootstrap = {{ suite = "{suite}" }} }} }}
}}
"#
    )
}
