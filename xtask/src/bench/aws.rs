//! A thousand AMIs on the rig's EC2: how often AWS is asked, and how long a plan takes that looks at them all.

pub(super) mod builds;

use acceptance_tests::Moto;
use anyhow::Result;

use super::contestant::{Contestant, Contestants};
use super::measure::{Row, medians, seconds};
use super::plan;

const MANY: usize = 1000;
const REGION: &str = "us-west-2";

pub(crate) fn run(contestants: &Contestants) -> Result<Vec<Row>> {
    let moto = Moto::start()?;
    // Images as builds leave them.
    let register = |number: usize| {
        let key = format!("{number:063}");
        moto.register(REGION, &format!("bench-{number}"), &[("sindri_key", &key)])
    };
    let ids = (0..MANY).map(register).collect::<Result<Vec<_>>>()?;
    let ours = contestants.workspace(&contestants.ours, &adopted(&moto, &ids))?.served_by(&moto);
    ours.run(&["apply", "-auto-approve"])?;
    let peer = contestants.workspace(&contestants.peer, &plan::images(contestants.peer.name, MANY))?;
    peer.run(&["apply", "-auto-approve"])?;
    moto.forget_requests()?;
    ours.run(&["plan"])?;
    let calls: u64 = moto.requests()?.values().sum();
    let refresh = |workspace: &super::contestant::Workspace| seconds(|| workspace.run(&["plan"]).map(drop));
    let (ours, other) = medians(3, || refresh(&ours), || refresh(&peer))?;
    let found = find(contestants, &moto)?;
    Ok(vec![
        Row { name: "refresh of 1,000 AMIs, against Go's nothing".into(), ours, other, unit: "s", aim: "" },
        Row {
            name: "requests for that, against 10".into(),
            ours: f64::from(u32::try_from(calls).unwrap_or(u32::MAX)),
            other: 10.0,
            unit: "calls",
            aim: "≤ 1.00×",
        },
        found,
    ])
}

fn adopted(moto: &Moto, ids: &[String]) -> String {
    format!(
        "{}resource \"sindri_image\" \"many\" {{\n  for_each          = toset({ids:?})\n  existing_image_id = each.key\n  aws               = {{}}\n}}\n",
        provider(moto)
    )
}

fn provider(moto: &Moto) -> String {
    format!(
        "provider \"sindri\" {{\n  aws = {{ region = {REGION:?}, endpoint_url = {:?} }}\n}}\n",
        moto.url()
    )
}

/// A plan that looks for an image on EC2, among a thousand, against one that knows of none.
fn find(contestants: &Contestants, moto: &Moto) -> Result<Row> {
    let image = "resource \"sindri_image\" \"one\" {\n  name_prefix = \"bench\"\n  aws         = {}\n}\n";
    let plan = |contestant: &Contestant, text: String| {
        let workspace = contestants.workspace(contestant, &text)?.served_by(moto);
        seconds(|| workspace.run(&["plan"]).map(drop))
    };
    let (ours, other) = medians(
        5,
        || plan(&contestants.ours, provider(moto) + image),
        || plan(&contestants.peer, plan::images(contestants.peer.name, 1)),
    )?;
    Ok(Row { name: "find at plan on EC2, against Go's nothing".into(), ours, other, unit: "s", aim: "" })
}
