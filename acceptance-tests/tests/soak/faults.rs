//! EC2 at its worst: it refuses each request twenty times in a row, does not know what it has made, and answers nothing to who
//! asked for something. Every round ends with exactly what was asked for, and after it with nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use acceptance_tests::account::{Account, IMAGE, images, log};
use acceptance_tests::{Cli, Fault, Host, Moto, Workspace};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::share;

/// In a row.
const REFUSALS: u32 = 20;
/// In a row.
const UNKNOWN: u32 = 10;
const THERE: &str = "eu-central-1";

/// Something that lives on an EC2 of its own: a machine, or an image with a copy, shared and aged.
#[derive(Clone)]
struct Life {
    name: &'static str,
    scenario: &'static str,
    /// Puts into EC2 what it starts from, and gives the configuration its variables.
    begin: fn(&Moto, &Workspace) -> Result<()>,
    /// What there is of it after an apply, more than before.
    whole: &'static [(&'static str, usize)],
}

const MACHINE: Life = Life {
    name: "a machine",
    scenario: "aws-vm-settings",
    begin: |moto, workspace| {
        let image = moto.image("base")?;
        let aws = json!({ "allowed_cidrs": ["192.0.2.0/24"] });
        workspace.variables(&json!({ "image_id": image, "aws": aws, "create_timeout": "30m" }))
    },
    whole: &[("instances", 1), ("volumes", 1), ("key_pairs", 1), ("security_groups", 1)],
};

const SPREAD: Life = Life {
    name: "an image, copied, shared and aged",
    scenario: "aws-image-settings",
    begin: |moto, workspace| {
        let plan = workspace.plan()?;
        let planned = plan.change("sindri_image.it[0]").context("nothing planned")?;
        let key = planned.after["cache_key"].as_str().context("no key")?;
        moto.register("us-west-2", "it-0", &[("sindri_key", key)])?;
        workspace.variables(&json!({
            "tags": { "team": "a" },
            "timeouts": { "create": "30m", "delete": "30m" },
            "aws": {
                "encrypt_boot": false, "ami_regions": [THERE], "deprecate_after": "2160h",
                "share": { "account_ids": ["111111111111"] },
            },
        }))
    },
    // The one that is found, and its copy.
    whole: &[("images", 1), ("snapshots", 1)],
};

impl Life {
    /// Begins anew, lets what is asked for go wrong, and lives. Returns how often each action was asked for.
    fn live(&self, faults: impl FnOnce(&Moto) -> Result<()>) -> Result<BTreeMap<String, u64>> {
        let (host, moto) = (Host::new()?, Moto::start()?);
        let mut workspace = host.workspace(Cli::Tofu, self.scenario)?;
        moto.serve(&mut workspace);
        (self.begin)(&moto, &workspace)?;
        let before = moto.inventory()?;
        moto.forget_requests()?;
        faults(&moto)?;
        let applied = workspace.apply()?;
        ensure!(applied.warnings().is_empty(), "{applied}");
        let now = moto.inventory()?;
        for (kind, ids) in &now {
            let more = self.whole.iter().find(|(it, _)| it == kind).map_or(0, |(_, count)| *count);
            let expected = before[kind].len() + more;
            ensure!(ids.len() == expected, "{expected} {kind} were to be there: {now:?}, before {before:?}");
        }
        let destroyed = workspace.destroy()?;
        ensure!(destroyed.warnings().is_empty(), "{destroyed}");
        let mut left = moto.inventory()?;
        // What a machine was launched from is somebody else's.
        left.retain(|kind, ids| !ids.is_empty() && (self.whole[0].0 == "images" || before[kind] != *ids));
        ensure!(left.is_empty(), "left behind: {left:?}");
        host.inventory()?.ensure_empty()?;
        moto.requests()
    }
}

/// So many of these as the environment asks for, from all over them.
fn some<T: Clone>(all: &[T]) -> Vec<T> {
    let count = share(u32::try_from(all.len()).unwrap_or(u32::MAX)) as usize;
    (0..count).map(|number| all[number * all.len() / count].clone()).collect()
}

/// Twenty times in a row, by each of the ways in which EC2 says so, and a proxy before it.
#[test]
fn each_request_is_refused_twenty_times() -> Result<()> {
    let proxys = Fault::Error { status: 429, code: "TooManyRequests", message: "Later." };
    for life in [MACHINE, SPREAD] {
        let asked: Vec<String> = life.live(|_| Ok(()))?.into_keys().collect();
        for (number, action) in some(&asked).iter().enumerate() {
            let began = Instant::now();
            let fault = if number % 2 == 0 { Fault::THROTTLED } else { proxys };
            let asked = life.live(|moto| moto.fault(action, REFUSALS, fault));
            let asked = asked.with_context(|| format!("{}: {action}, {fault:?}", life.name))?;
            ensure!(asked[action] > u64::from(REFUSALS), "{action}: {asked:?}");
            eprintln!("{}: {action}: {:?}", life.name, began.elapsed());
        }
    }
    Ok(())
}

/// What is refused as unknown, and where, after so many answers.
#[derive(Clone)]
struct Unknown {
    life: Life,
    action: &'static str,
    code: &'static str,
    place: Option<(&'static str, u32)>,
}

/// Ten times in a row, each by which EC2 refuses what names something that it has just made.
#[test]
fn what_was_made_is_not_known_ten_times() -> Result<()> {
    let of_machine = |action, code| Unknown { life: MACHINE, action, code, place: None };
    let cases = [
        of_machine("AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound"),
        of_machine("RunInstances", "InvalidKeyPair.NotFound"),
        of_machine("RunInstances", "InvalidGroup.NotFound"),
        of_machine("DeleteTags", "InvalidInstanceID.NotFound"),
        Unknown {
            life: SPREAD,
            action: "DescribeImages",
            code: "InvalidAMIID.NotFound",
            // The first look there is for what an earlier apply may have begun.
            place: Some((THERE, 1)),
        },
    ];
    for Unknown { life, action, code, place } in some(&cases) {
        let began = Instant::now();
        let fault = Fault::Error { status: 400, code, message: "It does not exist" };
        let asked = life.live(|moto| match place {
            Some((region, after)) => moto.fault_in(region, action, after, UNKNOWN, fault),
            None => moto.fault(action, UNKNOWN, fault),
        });
        let asked = asked.with_context(|| format!("{}: {action}, {code}", life.name))?;
        ensure!(asked[action] > u64::from(UNKNOWN), "{action}: {asked:?}");
        eprintln!("{}: {action}, {code}: {:?}", life.name, began.elapsed());
    }
    Ok(())
}

/// Where an answer is lost, there is one of it all the same.
#[test]
fn a_hundred_answers_to_creations_are_lost() -> Result<()> {
    let mut lost = 0;
    // Seven of a machine and an image.
    for round in 0..share(15) {
        let began = Instant::now();
        let machine = [
            ("RunInstances", 1 + round % 3),
            ("ImportKeyPair", 1 + round % 2),
            ("CreateSecurityGroup", 1 + round % 2),
        ];
        let image = [("CopyImage", 1 + round % 3), ("CreateTags", 1)];
        for (life, faults) in [(MACHINE, &machine[..]), (SPREAD, &image)] {
            let lose = |moto: &Moto| {
                faults.iter().try_for_each(|(action, times)| moto.fault(action, *times, Fault::Drop))
            };
            let asked =
                life.live(lose).with_context(|| format!("round {round}, {}: {faults:?}", life.name))?;
            for (action, times) in faults {
                ensure!(asked[*action] > u64::from(*times), "{action}: {asked:?}");
                lost += times;
            }
        }
        eprintln!("round {round}: {lost} answers lost so far, {:?}", began.elapsed());
    }
    ensure!(lost >= share(100), "{lost} answers were lost only");
    Ok(())
}

/// Packer's own requests among them: Packer may give up, and nothing is left then; the next apply has one image.
#[test]
fn builds_meet_faults() -> Result<()> {
    let account = Account::new()?;
    let asked = build(&account, "undisturbed", |_| Ok(()))?.1;
    let mut cases = Vec::new();
    for action in &asked {
        for (name, times, fault) in [
            // Packer's pauses grow to minutes.
            ("throttled", 4, Fault::THROTTLED),
            ("lost", 1, Fault::Drop),
            ("lost thrice", 3, Fault::Drop),
            ("reset", 2, Fault::Reset),
        ] {
            cases.push((action.clone(), name, times, fault));
        }
    }
    let (mut failures, cases) = (BTreeSet::new(), some(&cases));
    for (round, (action, name, times, fault)) in cases.iter().enumerate() {
        let began = Instant::now();
        let (is_built, _) =
            build(&account, &format!("met-{round}"), |moto| moto.fault(action, *times, *fault))
                .with_context(|| format!("round {round}: {action} {name}"))?;
        if !is_built {
            failures.insert(format!("{action} {name}"));
        }
        eprintln!("round {round}: {action} {name}: built {is_built}, {:?}", began.elapsed());
    }
    eprintln!("{} of {} builds were given up: {failures:?}", failures.len(), cases.len());
    Ok(())
}

/// A build with a check in a machine of its own, and a copy. Returns whether it succeeded, and what was asked for.
fn build(
    account: &Account,
    marker: &str,
    faults: impl FnOnce(&Moto) -> Result<()>,
) -> Result<(bool, BTreeSet<String>)> {
    let host = Host::new()?;
    let check = json!({ "name": "the marker", "command": format!("grep -qx {marker} /srv/marker") });
    let variables: Value =
        json!({ "marker": marker, "verify": [check], "verify_boot": true, "ami_regions": [THERE] });
    let workspace = account.workspace(&host, Cli::Tofu, variables)?;
    account.moto.forget_requests()?;
    faults(&account.moto)?;
    let outcome = workspace.apply_with(&[])?;
    let asked = account.moto.requests()?.into_keys().collect();
    account.moto.heal()?;
    let told = || format!("{outcome}\n{}", log(&host));
    let more = account.more()?;
    let is_whole = outcome.success && outcome.warnings().is_empty();
    if is_whole {
        ensure!(more == images(2), "after an apply there are {more:?}: {}", told());
    } else {
        // An image that state has, or what the journal has: no machine, and nothing that costs by the hour.
        let costs: Vec<_> =
            more.keys().filter(|kind| !["images", "snapshots"].contains(&kind.as_str())).collect();
        ensure!(costs.is_empty(), "after a failure there are {more:?}: {}", told());
        ensure!(
            more.get("images").is_none_or(|count| *count <= 2),
            "after a failure there are {more:?}: {}",
            told()
        );
    }
    let again = workspace.apply().with_context(|| format!("the next apply, after {}", told()))?;
    ensure!(again.warnings().is_empty(), "{again}");
    ensure!(account.more()? == images(2), "the next apply left {:?}: {}", account.more()?, told());
    workspace.converged()?;
    workspace.destroy()?;
    account.ensure_as_before()?;
    ensure!(workspace.state(IMAGE)?.is_none(), "the image is in state");
    host.inventory()?.ensure_empty()?;
    Ok((is_whole, asked))
}
