//! What is past its deadline on EC2: found, removed, and nothing else touched. Against the rig's EC2.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Region;
use aws_sdk_ec2::types::{RequestLaunchTemplateData, ResourceType, Tag, TagSpecification};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sindri::backends::aws::sweep::{How, Swept};
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::domain::{CacheKey, Holder};
use sindri::journal::{Entry, Phase};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::moto::under_moto;

pub(crate) const HOME: &str = "us-west-2";

/// What [`things`] makes.
pub(crate) const KINDS: [&str; 7] =
    ["launch template", "instance", "volume", "image", "snapshot", "key pair", "security group"];

pub(crate) const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-sindri");

pub(crate) fn aws(data_dir: &Path) -> Aws {
    Aws::new(AwsSettings::default(), data_dir.to_owned())
}

pub(crate) async fn ec2() -> Client {
    Client::new(&aws_config::from_env().region(Region::new(HOME)).load().await)
}

pub(crate) fn tags(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

pub(crate) fn time(hours: i64) -> String {
    (Utc::now() + TimeDelta::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An image of nobody's, to launch from.
pub(crate) async fn base(ec2: &Client) -> String {
    ec2.register_image().name("base").send().await.unwrap().image_id.unwrap()
}

/// Instance, volumes, key pair, security group, image and snapshot of a build. Returns the image.
pub(crate) async fn things(ec2: &Client, base: &str, build: &str, deadline: &str) -> String {
    let ours = [("sindri_build", build), ("sindri_deadline", deadline)];
    let name = format!("things-{build}");
    let pair = ec2.create_key_pair().key_name(&name).tag_specifications(tags(ResourceType::KeyPair, &ours));
    pair.send().await.unwrap();
    let group = ec2.create_security_group().group_name(&name).description("test");
    let group = group.tag_specifications(tags(ResourceType::SecurityGroup, &ours)).send().await.unwrap();
    let run = ec2
        .run_instances()
        .image_id(base)
        .instance_type("t3.micro".into())
        .min_count(1)
        .max_count(1)
        .key_name(&name)
        .security_group_ids(group.group_id.unwrap())
        .tag_specifications(tags(ResourceType::Instance, &ours))
        .tag_specifications(tags(ResourceType::Volume, &ours));
    let instance = run.send().await.unwrap().instances.unwrap().remove(0).instance_id.unwrap();
    let data = RequestLaunchTemplateData::builder().image_id(base).build();
    let template = ec2.create_launch_template().launch_template_name(&name).launch_template_data(data);
    template.tag_specifications(tags(ResourceType::LaunchTemplate, &ours)).send().await.unwrap();
    let volume = ec2.create_volume().availability_zone("us-west-2a").size(1);
    volume.tag_specifications(tags(ResourceType::Volume, &ours)).send().await.unwrap();
    let image = ec2
        .create_image()
        .instance_id(instance)
        .name(&name)
        .tag_specifications(tags(ResourceType::Image, &ours))
        .tag_specifications(tags(ResourceType::Snapshot, &ours));
    image.send().await.unwrap().image_id.unwrap()
}

/// All that there is, by kind.
pub(crate) async fn inventory() -> BTreeMap<String, BTreeSet<String>> {
    let url = format!("{}/_rig/inventory", std::env::var("AWS_ENDPOINT_URL").unwrap());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

pub(crate) async fn entry(aws: &Aws, phase: Phase) -> Entry {
    let build = Uuid::new_v4();
    Entry {
        build,
        cloud: "aws".into(),
        region: HOME.into(),
        name: format!("image-{build}"),
        key: CacheKey::try_from("a".repeat(63)).unwrap(),
        share: true,
        holder: Holder::random(),
        tags: BTreeMap::from([("sindri_base".to_owned(), "ami-0".to_owned())]),
        access: aws.access().await.unwrap(),
        started_at: DateTime::from_timestamp((Utc::now() - TimeDelta::hours(1)).timestamp(), 0).unwrap(),
        deadline: Utc::now() + TimeDelta::hours(1),
        phase,
    }
}

/// What is said when there is nothing, and where that was looked for.
pub(crate) const NOTHING: &str = "nothing to remove\nlooked at this computer, and at AWS in us-west-2\n";

/// What `sweep` of the binary says.
pub(crate) fn by_hand(data_dir: &Path, args: &[&str]) -> (bool, String) {
    let done =
        Command::new(PROVIDER).arg("sweep").args(args).arg("--data-dir").arg(data_dir).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (done.status.success(), said)
}

#[test]
fn only_what_is_overdue_is_removed_without_a_journal() {
    under_moto("only_what_is_overdue_is_removed_without_a_journal", async || {
        let (dir, client) = (tempfile::tempdir().unwrap(), ec2().await);
        let (base, past) = (base(&client).await, time(-1));
        things(&client, &base, &Uuid::new_v4().to_string(), &time(1)).await;
        let complete = things(&client, &base, &Uuid::new_v4().to_string(), &time(1)).await;
        // A complete image whose deadline was not taken off.
        let key = [("sindri_key", "a".repeat(63)), ("sindri_deadline", past.clone())];
        for (key, value) in &key {
            let tag = Tag::builder().key(*key).value(value).build();
            client.create_tags().resources(&complete).tags(tag).send().await.unwrap();
        }
        let before = inventory().await;
        let overdue = Uuid::new_v4().to_string();
        let image = things(&client, &base, &overdue, &past).await;
        let with_overdue = inventory().await;
        let (good, said) = by_hand(dir.path(), &["--dry-run"]);
        assert!(good && said.contains(&format!("would remove image {image} in {HOME}")), "{said}");
        assert_eq!(inventory().await, with_overdue);
        let (good, said) = by_hand(dir.path(), &["--region", "eu-central-1"]);
        assert!(good, "{said}");
        for kind in KINDS {
            assert!(said.contains(&format!("removed {kind} ")), "{kind}: {said}");
        }
        let (looked, removed) = said.trim_end().rsplit_once('\n').map(|(all, last)| (last, all)).unwrap();
        assert!(
            removed.lines().all(|line| line.ends_with(&format!("in {HOME} of build {overdue}"))),
            "{said}"
        );
        assert_eq!(looked, format!("looked at this computer, and at AWS in {HOME}, eu-central-1"));
        assert_eq!(inventory().await, before);
        assert_eq!(by_hand(dir.path(), &[]), (true, NOTHING.to_owned()));
    });
}

#[test]
fn a_sweep_tells_where_it_looked() {
    under_moto("a_sweep_tells_where_it_looked", async || {
        let (dir, client) = (tempfile::tempdir().unwrap(), ec2().await);
        let build = Uuid::new_v4().to_string();
        things(&client, &base(&client).await, &build, &time(-1)).await;
        let elsewhere = |args: &[&str], environment: &[(&str, &str)]| {
            let mut sweep = Command::new(PROVIDER);
            sweep.arg("sweep").args(args).arg("--data-dir").arg(dir.path());
            for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"] {
                sweep.env_remove(name);
            }
            sweep.env("HOME", dir.path()).env("AWS_EC2_METADATA_DISABLED", "true").envs(environment.to_vec());
            let done = sweep.output().unwrap();
            let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
            (done.status.success(), said)
        };
        let (good, said) = elsewhere(&[], &[]);
        assert!(good && said.contains("not at AWS") && said.contains("AWS_REGION"), "{said}");
        // Set up, and of no use.
        let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/none")];
        let (good, said) = elsewhere(&[], &container);
        assert!(!good && said.starts_with("looked at this computer alone"), "{said}");
        let (good, said) = by_hand(dir.path(), &["--all-regions"]);
        let looked = said.lines().last().unwrap_or_default();
        assert!(good && looked.contains(HOME) && looked.contains("eu-central-1"), "{said}");
        assert!(said.contains(&format!("in {HOME} of build {build}")), "{said}");
    });
}

/// From now on AWS does not allow this.
pub(crate) async fn deny(action: &str) {
    let order = format!(
        r#"{{"action": "{action}", "times": 1000000, "status": 403, "code": "UnauthorizedOperation", "message": "no"}}"#
    );
    fault(&order).await;
}

pub(crate) async fn fault(fault: &str) {
    let url = format!("{}/_rig/faults", std::env::var("AWS_ENDPOINT_URL").unwrap());
    let ordered = reqwest::Client::new().post(url).body(fault.to_owned()).send().await.unwrap();
    assert!(ordered.status().is_success());
}

/// Of each kind there is more than one page.
#[test]
fn what_is_on_a_later_page_is_removed_too() {
    under_moto("what_is_on_a_later_page_is_removed_too", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        for _ in 0..3 {
            things(&client, &base, &Uuid::new_v4().to_string(), &time(-1)).await;
        }
        let url = format!("{}/_rig/pages", std::env::var("AWS_ENDPOINT_URL").unwrap());
        let ordered = reqwest::Client::new().post(url).body(r#"{"most": 1}"#).send().await.unwrap();
        assert!(ordered.status().is_success());
        let swept = aws.sweep_overdue(Some(HOME), How::Really, &cancel).await.unwrap();
        assert!(swept.iter().all(|it| matches!(it, Swept::Removed(_))), "{swept:?}");
        assert_eq!(inventory().await, before);
    });
}

/// Each kind in a region of its own: what is past its deadline is alone there.
const PLACES: [(&str, &str); 7] = [
    ("launch template", "us-east-1"),
    ("instance", "us-east-2"),
    ("volume", "us-west-1"),
    ("image", "eu-west-1"),
    ("snapshot", "eu-west-2"),
    ("key pair", "eu-central-1"),
    ("security group", "ap-south-1"),
];

/// One thing of a build.
async fn thing(ec2: &Client, kind: &str, build: &str, deadline: &str) {
    let ours = [("sindri_build", build), ("sindri_deadline", deadline)];
    let ours = |kind| tags(kind, &ours);
    let base = base(ec2).await;
    let volume = || ec2.create_volume().availability_zone("a").size(1);
    match kind {
        "launch template" => {
            let data = RequestLaunchTemplateData::builder().image_id(base).build();
            let asked = ec2.create_launch_template().launch_template_name(build).launch_template_data(data);
            asked.tag_specifications(ours(ResourceType::LaunchTemplate)).send().await.map(drop).unwrap();
        }
        "instance" => {
            let asked = ec2.run_instances().image_id(base).min_count(1).max_count(1);
            asked.tag_specifications(ours(ResourceType::Instance)).send().await.map(drop).unwrap();
        }
        "volume" => {
            let asked = volume().tag_specifications(ours(ResourceType::Volume));
            asked.send().await.map(drop).unwrap();
        }
        "image" => {
            let asked = ec2.register_image().name(build).tag_specifications(ours(ResourceType::Image));
            asked.send().await.map(drop).unwrap();
        }
        "snapshot" => {
            let volume = volume().send().await.unwrap().volume_id.unwrap();
            let asked = ec2.create_snapshot().volume_id(volume);
            asked.tag_specifications(ours(ResourceType::Snapshot)).send().await.map(drop).unwrap();
        }
        "key pair" => {
            let asked = ec2.create_key_pair().key_name(build);
            asked.tag_specifications(ours(ResourceType::KeyPair)).send().await.map(drop).unwrap();
        }
        _ => {
            let asked = ec2.create_security_group().group_name(build).description("test");
            asked.tag_specifications(ours(ResourceType::SecurityGroup)).send().await.map(drop).unwrap();
        }
    }
}

#[test]
fn one_request_tells_whether_anything_is_overdue() {
    under_moto("one_request_tells_whether_anything_is_overdue", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        things(&client, &base, &Uuid::new_v4().to_string(), &time(1)).await;
        let counts = format!("{}/_rig/requests", std::env::var("AWS_ENDPOINT_URL").unwrap());
        reqwest::Client::new().delete(&counts).send().await.unwrap();
        let sweep = async |region| aws.sweep_overdue(Some(region), How::Really, &cancel).await.unwrap();
        assert!(sweep(HOME).await.is_empty(), "they may go on elsewhere");
        let asked = reqwest::get(&counts).await.unwrap().text().await.unwrap();
        let asked: BTreeMap<&str, u32> = serde_json::from_str(&asked).unwrap();
        assert_eq!(asked, BTreeMap::from([("DescribeTags", 1)]));

        let cleared = async |(kind, region)| {
            let there = aws_config::from_env().region(Region::new(region)).load().await;
            thing(&Client::new(&there), kind, &Uuid::new_v4().to_string(), &time(-1)).await;
            let swept = sweep(region).await;
            let is_one = |it: &Swept| matches!(it, Swept::Removed(it) if it.kind.name() == kind);
            assert!(swept.iter().any(is_one), "{kind}: {swept:?}");
        };
        futures::future::join_all(PLACES.map(&cleared)).await;
        // Whoever may not ask for tags asks for the things.
        deny("DescribeTags").await;
        cleared(("key pair", "ca-central-1")).await;
    });
}

#[test]
fn there_is_no_waiting_where_there_is_no_time() {
    under_moto("there_is_no_waiting_where_there_is_no_time", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        let build = Uuid::new_v4().to_string();
        things(&client, &base, &build, &time(-1)).await;
        let now = How::Until(tokio::time::Instant::now());
        let swept = aws.sweep_overdue(Some(HOME), now, &cancel).await.unwrap();
        let [Swept::Left { why, .. }] = swept.as_slice() else { panic!("{swept:?}") };
        assert!(why.to_string().contains("is not gone yet"), "{why}");
        // It was asked to go all the same, and goes when there is time.
        let swept = aws.sweep_overdue(Some(HOME), How::Really, &cancel).await.unwrap();
        assert!(!swept.iter().any(|it| matches!(it, Swept::Left { .. })), "{swept:?}");
        assert_eq!(inventory().await, before);
    });
}

#[test]
fn a_kept_builder_stays_until_somebody_sweeps_here() {
    under_moto("a_kept_builder_stays_until_somebody_sweeps_here", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        let begun = entry(&aws, Phase::Kept).await;
        things(&client, &base, &begun.build.to_string(), &time(-1)).await;
        drop(aws.journal().begin(begun.clone()).unwrap());
        let kept = inventory().await;
        assert_ne!(kept, before);
        assert!(aws.recover(Some(HOME), How::Really, &cancel).await.unwrap().is_empty());
        assert!(aws.sweep_overdue(Some(HOME), How::Really, &cancel).await.unwrap().is_empty());
        // On another computer, where there is no journal.
        let other = tempfile::tempdir().unwrap();
        let (good, said) = by_hand(other.path(), &["--dry-run"]);
        assert!(good && said.contains("would remove instance"), "{said}");
        aws.keep(HOME, begun.build).await.unwrap();
        assert_eq!(by_hand(other.path(), &[]), (true, NOTHING.to_owned()));
        assert_eq!(inventory().await, kept);
        let (good, said) = by_hand(dir.path(), &[]);
        assert!(good && said.contains("removed instance"), "{said}");
        assert_eq!(inventory().await, before);
        assert!(!aws.journal().knows(begun.build));
    });
}
