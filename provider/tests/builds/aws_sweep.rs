//! What killed builds leave on EC2: found, removed, or finished, and nothing else touched. Against the rig's EC2.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Region;
use aws_sdk_ec2::types::{RequestLaunchTemplateData, ResourceType, Tag, TagSpecification};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sindri::backends::aws::sweep::{How, Swept, environment};
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::domain::{CacheKey, Copies, Holder, ImageBackend, Released};
use sindri::journal::{Entry, Phase};
use sindri::process::{self, Ending, Following, HandOver, Limits, Runner};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::moto::under_moto;

const HOME: &str = "us-west-2";
/// What [`things`] makes.
const KINDS: [&str; 7] =
    ["launch template", "instance", "volume", "image", "snapshot", "key pair", "security group"];
const PROVIDER: &str = env!("CARGO_BIN_EXE_terraform-provider-sindri");

fn aws(data_dir: &Path) -> Aws {
    Aws::new(AwsSettings::default(), data_dir.to_owned())
}

async fn ec2() -> Client {
    Client::new(&aws_config::from_env().region(Region::new(HOME)).load().await)
}

fn tags(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

fn time(hours: i64) -> String {
    (Utc::now() + TimeDelta::hours(hours)).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An image of nobody's, to launch from.
async fn base(ec2: &Client) -> String {
    ec2.register_image().name("base").send().await.unwrap().image_id.unwrap()
}

/// Instance, volumes, key pair, security group, image and snapshot of a build. Returns the image.
async fn things(ec2: &Client, base: &str, build: &str, deadline: &str) -> String {
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
async fn inventory() -> BTreeMap<String, BTreeSet<String>> {
    let url = format!("{}/_rig/inventory", std::env::var("AWS_ENDPOINT_URL").unwrap());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn entry(aws: &Aws, phase: Phase) -> Entry {
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
const NOTHING: &str = "nothing to remove\nlooked at this computer, and at AWS in us-west-2\n";

/// What `sweep` of the binary says.
fn by_hand(data_dir: &Path, args: &[&str]) -> (bool, String) {
    let done =
        Command::new(PROVIDER).arg("sweep").args(args).arg("--data-dir").arg(data_dir).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (done.status.success(), said)
}

/// It was killed before its holder was in state.
#[test]
fn the_claim_of_a_killed_apply_goes_and_an_image_of_its_own_with_it() {
    under_moto("the_claim_of_a_killed_apply_goes_and_an_image_of_its_own_with_it", async || {
        let (dir, client, never) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let there = aws_config::from_env().region(Region::new("eu-central-1")).load().await;
        let there = Client::new(&there);
        for (share, is_held, stays) in [(true, false, true), (false, true, true), (false, false, false)] {
            let before = inventory().await;
            let aws = aws(dir.path());
            let image = client.register_image().name(format!("{share}-{is_held}")).send().await.unwrap();
            let image = image.image_id.unwrap();
            let begun = entry(&aws, Phase::Claimed { image_id: image.clone(), alone: true }).await;
            let held = format!("sindri_holder_{}", begun.holder);
            let other = format!("sindri_holder_{}", Holder::random());
            let ours = [
                ("sindri_key", begun.key.as_str()),
                (held.as_str(), "held"),
                ("sindri_unfinished_eu-central-1", "copying"),
                (other.as_str(), "held"),
            ];
            for (key, value) in &ours[..if is_held { 4 } else { 3 }] {
                let tag = Tag::builder().key(*key).value(*value).build();
                client.create_tags().resources(&image).tags(tag).send().await.unwrap();
            }
            // Its record was lost.
            let origin = format!("{HOME}/{image}");
            let copy = there.register_image().name("copy");
            let copy = copy.tag_specifications(tags(ResourceType::Image, &[("sindri_copy_of", &origin)]));
            let copy = copy.send().await.unwrap().image_id.unwrap();
            let with_it = inventory().await;
            drop(aws.journal().begin(Entry { share, ..begun }).unwrap());
            let swept = aws.recover(Some(HOME), How::DryRun, &never).await.unwrap();
            assert_eq!(matches!(swept.as_slice(), [Swept::Unclaimed(_)]), stays, "{swept:?}");
            assert_eq!(inventory().await, with_it);
            let swept = aws.recover(Some(HOME), How::Really, &never).await.unwrap();
            assert!(!swept.iter().any(|it| matches!(it, Swept::Left { .. })), "{swept:?}");
            assert_eq!(inventory().await, if stays { with_it } else { before }, "{share} {is_held}");
            assert!(aws.journal().abandoned().unwrap().is_empty());
            if stays {
                let images = Arc::new(aws).images(Some(HOME));
                let holders = images.holders(&image).await.unwrap();
                assert_eq!(holders.len(), usize::from(is_held), "{holders:?}");
                there.deregister_image().image_id(&copy).send().await.unwrap();
            }
        }
        // One that is made, and is never known.
        let lost = Arc::new(aws(dir.path()));
        let images = lost.images(Some(HOME));
        let key = CacheKey::try_from("a".repeat(63)).unwrap();
        let image = images.find_now(&key).await.unwrap().remove(0).id;
        let before = images.holders(&image).await.unwrap();
        let holder = Holder::random();
        images.hold(&image, &holder, Utc::now(), &never).await.unwrap();
        assert!(aws(dir.path()).recover(None, How::Really, &never).await.unwrap().is_empty(), "it lives");
        drop((images, lost));
        let images = Arc::new(aws(dir.path())).images(Some(HOME));
        assert_eq!(images.holders(&image).await.unwrap().len(), before.len() + 1);
        aws(dir.path()).recover(None, How::Really, &never).await.unwrap();
        assert_eq!(images.holders(&image).await.unwrap(), before);
        // Where the journal is lost, too, it ends with its time.
        let other = tempfile::tempdir().unwrap();
        let elsewhere = Arc::new(aws(other.path())).images(Some(HOME));
        let long_ago = Utc::now() - TimeDelta::hours(1);
        elsewhere.hold(&image, &Holder::random(), long_ago, &never).await.unwrap();
        drop(elsewhere);
        assert_eq!(images.holders(&image).await.unwrap(), before);
    });
}

/// It was killed between the image's key and the end of its entry: the next plan finds the image, and nothing is built.
#[test]
fn the_claim_of_a_killed_build_goes_when_its_image_is_claimed() {
    under_moto("the_claim_of_a_killed_build_goes_when_its_image_is_claimed", async || {
        let (dir, client) = (tempfile::tempdir().unwrap(), ec2().await);
        let aws = Arc::new(aws(dir.path()));
        let image = base(&client).await;
        let dead = entry(&aws, Phase::Accepted { image_id: image.clone() }).await;
        let held = format!("sindri_holder_{}", dead.holder);
        for (key, value) in [("sindri_key", dead.key.as_str()), (held.as_str(), "held")] {
            let tag = Tag::builder().key(key).value(value).build();
            client.create_tags().resources(&image).tags(tag).send().await.unwrap();
        }
        drop(aws.journal().begin(dead).unwrap());

        let (mine, images) = (Holder::random(), aws.images(Some(HOME)));
        images.hold(&image, &mine, Utc::now(), &CancellationToken::new()).await.unwrap();
        images.confirm_claim(&image, &mine).await.unwrap();
        assert_eq!(images.holders(&image).await.unwrap(), std::slice::from_ref(&mine));
        assert!(aws.journal().abandoned().unwrap().is_empty());
        // Or nobody would delete it.
        let never = CancellationToken::new();
        let released = images.release(&image, Some(&mine), false, &Copies::new(), &never).await.unwrap();
        assert!(matches!(released, Released::Deleted { .. }), "{released:?}");
    });
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

#[test]
fn abandoned_builds_are_removed_or_finished() {
    under_moto("abandoned_builds_are_removed_or_finished", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        let phases: [fn(String) -> (Phase, bool); 5] = [
            |_| (Phase::Building, true),
            |image_id| (Phase::Built { image_id }, true),
            |image_id| (Phase::Accepted { image_id }, false),
            |_| (Phase::Accepted { image_id: "ami-0123456789abcdef0".into() }, true),
            |image_id| (Phase::Accepted { image_id }, true),
        ];
        let mut completed = Vec::new();
        for phase in phases {
            let begun = entry(&aws, Phase::Begun).await;
            let build = begun.build.to_string();
            let image = things(&client, &base, &build, &time(1)).await;
            untagged(&client, &base, &begun).await;
            let (phase, share) = phase(image.clone());
            let told = format!("{phase:?} {share}");
            let record = aws.journal().begin(Entry { phase, share, ..begun }).unwrap();
            assert!(aws.recover(Some(HOME), How::Really, &cancel).await.unwrap().is_empty(), "it lives");
            drop(record);
            assert!(aws.recover(Some("eu-central-1"), How::Really, &cancel).await.unwrap().is_empty());
            let swept = aws.recover(Some(HOME), How::Really, &cancel).await.unwrap();
            assert!(!swept.iter().any(|it| matches!(it, Swept::Left { .. })), "{told}: {swept:?}");
            completed.extend(swept.iter().filter_map(|it| match it {
                Swept::Completed(it) => Some((told.clone(), it.id.clone(), image.clone())),
                _ => None,
            }));
            assert!(aws.journal().abandoned().unwrap().is_empty(), "{told}");
            if completed.is_empty() {
                assert_eq!(inventory().await, before, "{told}");
            }
        }
        let [(told, id, image)] = completed.as_slice() else { panic!("{completed:?}") };
        assert!(told.contains(image) && id == image, "{told}");
        let mut after = inventory().await;
        assert!(after.get_mut("images").unwrap().remove(image));
        let snapshots = after["snapshots"].difference(&before["snapshots"]).count();
        assert_eq!((snapshots, &after["instances"]), (1, &before["instances"]));
        let images = std::sync::Arc::new(aws).images(Some(HOME));
        let found = images.find(&CacheKey::try_from("a".repeat(63)).unwrap()).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].resolved_base.as_deref(), Some("ami-0"));
        assert!(images.holders(image).await.unwrap().is_empty());
    });
}

/// What Packer makes before it gives tags: by name they are the build's.
async fn untagged(client: &Client, base: &str, entry: &Entry) {
    let name = format!("sindri-{}", entry.build);
    client.create_key_pair().key_name(&name).send().await.unwrap();
    client.create_security_group().group_name(&name).description("test").send().await.unwrap();
    let ours = [("sindri_build", entry.build.to_string())];
    let ours = ours.each_ref().map(|(key, value)| (*key, value.as_str()));
    let run =
        client.run_instances().image_id(base).instance_type("t3.micro".into()).min_count(1).max_count(1);
    let run = run.tag_specifications(tags(ResourceType::Instance, &ours)).send().await.unwrap();
    let instance = run.instances.unwrap().remove(0).instance_id.unwrap();
    client.create_image().instance_id(instance).name(&entry.name).send().await.unwrap();
}

#[test]
fn an_entry_that_cannot_be_settled_stays() {
    under_moto("an_entry_that_cannot_be_settled_stays", async || {
        let (dir, client) = (tempfile::tempdir().unwrap(), ec2().await);
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let begun = entry(&aws, Phase::Building).await;
        things(&client, &base, &begun.build.to_string(), &time(1)).await;
        let before = inventory().await;
        let mut access = begun.access.clone();
        access["account"] = "999999999999".into();
        drop(aws.journal().begin(Entry { access, ..begun.clone() }).unwrap());
        let (good, said) = by_hand(dir.path(), &[]);
        assert!(!good && said.contains("was made in account 999999999999"), "{said}");
        assert_eq!(inventory().await, before);
        let record = aws.journal().abandoned().unwrap().remove(0);
        record.end().unwrap();
        // A begun build has asked for nothing, so nothing is asked of AWS for it.
        let access = serde_json::Value::Null;
        drop(aws.journal().begin(Entry { access, phase: Phase::Begun, ..begun }).unwrap());
        assert_eq!(by_hand(dir.path(), &[]), (true, NOTHING.to_owned()));
        assert!(aws.journal().abandoned().unwrap().is_empty());
    });
}

/// From now on AWS does not allow this.
async fn deny(action: &str) {
    let order = format!(
        r#"{{"action": "{action}", "times": 1000000, "status": 403, "code": "UnauthorizedOperation", "message": "no"}}"#
    );
    fault(&order).await;
}

async fn fault(fault: &str) {
    let url = format!("{}/_rig/faults", std::env::var("AWS_ENDPOINT_URL").unwrap());
    let ordered = reqwest::Client::new().post(url).body(fault.to_owned()).send().await.unwrap();
    assert!(ordered.status().is_success());
}

#[test]
fn what_is_stuck_keeps_nothing_else() {
    under_moto("what_is_stuck_keeps_nothing_else", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        let begun = entry(&aws, Phase::Building).await;
        things(&client, &base, &begun.build.to_string(), &time(1)).await;
        drop(aws.journal().begin(begun.clone()).unwrap());
        let overdue = [Uuid::new_v4(), Uuid::new_v4()];
        for build in &overdue {
            things(&client, &base, &build.to_string(), &time(-1)).await;
        }
        deny("DeleteVolume").await;
        deny("DescribeSpotInstanceRequests").await;
        let since = Instant::now();
        let until = How::Until(tokio::time::Instant::now() + Duration::from_secs(30));
        let mut swept = aws.recover(Some(HOME), until, &cancel).await.unwrap();
        swept.extend(aws.sweep_overdue(Some(HOME), until, &cancel).await.unwrap());
        for build in overdue.iter().chain([&begun.build]) {
            let build = build.to_string();
            let removed = |kind: &str| {
                swept
                    .iter()
                    .any(|it| matches!(it, Swept::Removed(it) if it.build == build && it.kind.name() == kind))
            };
            assert!(KINDS.iter().filter(|kind| **kind != "volume").all(|kind| removed(kind)), "{swept:?}");
            let left: Vec<String> = swept
                .iter()
                .filter_map(|it| match it {
                    Swept::Left { build: left, why, .. } if *left == build => Some(why.to_string()),
                    _ => None,
                })
                .collect();
            let [why] = left.as_slice() else { panic!("{swept:?}") };
            assert!(why.contains("does not allow ec2:DeleteVolume") && why.contains("volume vol-"), "{why}");
        }
        assert!(since.elapsed() < Duration::from_secs(60), "it waited for what never comes");
        let mut after = inventory().await;
        assert_eq!(after["volumes"].difference(&before["volumes"]).count(), 3);
        after.insert("volumes".into(), before["volumes"].clone());
        assert_eq!(after, before);
        assert!(aws.journal().knows(begun.build));
    });
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

/// It began long ago, and something of it may still come up.
#[test]
fn what_a_long_build_made_a_moment_ago_is_looked_for() {
    under_moto("what_a_long_build_made_a_moment_ago_is_looked_for", async || {
        let (dir, client, cancel) = (tempfile::tempdir().unwrap(), ec2().await, CancellationToken::new());
        let (aws, base) = (aws(dir.path()), base(&client).await);
        let before = inventory().await;
        let begun = entry(&aws, Phase::Building).await;
        let build = begun.build.to_string();
        let run = client.run_instances().image_id(base).instance_type("t3.micro".into());
        let run = run.min_count(1).max_count(1);
        let ours = tags(ResourceType::Instance, &[("sindri_build", &build)]);
        run.tag_specifications(ours).send().await.unwrap();
        drop(aws.journal().begin(begun).unwrap());
        // Looks in places that have not heard of it.
        fault(r#"{"action": "DescribeInstances", "kind": "unseen", "times": 2}"#).await;
        let swept = aws.recover(Some(HOME), How::Really, &cancel).await.unwrap();
        assert!(matches!(swept.as_slice(), [Swept::Removed(_)]), "{swept:?}");
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

/// Set for the provider of the test below, which is killed.
const DATA_DIR: &str = "SINDRI_TEST_DATA_DIR";

#[test]
fn a_killed_providers_supervisor_removes_what_its_build_made() {
    under_moto("a_killed_providers_supervisor_removes_what_its_build_made", async || {
        if let Some(dir) = std::env::var_os(DATA_DIR) {
            return build_for_ever(Path::new(&dir)).await;
        }
        let (dir, client) = (tempfile::tempdir().unwrap(), ec2().await);
        base(&client).await;
        let before = inventory().await;
        let mut provider = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "aws_sweep::a_killed_providers_supervisor_removes_what_its_build_made",
                "--nocapture",
            ])
            .env(DATA_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(provider.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "building"));
        assert_ne!(inventory().await, before);
        let journal = aws(dir.path()).journal();
        provider.kill().unwrap();
        provider.wait().unwrap();
        // Its supervisor holds the entry as long as Packer cleans up.
        assert!(journal.abandoned().unwrap().is_empty());
        let entries = || std::fs::read_dir(dir.path().join("journal")).unwrap().count();
        let since = Instant::now();
        while entries() > 0 {
            assert!(since.elapsed() < Duration::from_secs(120), "the entry stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(inventory().await, before);
        assert!(dir.path().join("cleaned").exists(), "Packer had no time to clean up");
        let own = std::fs::read_to_string(dir.path().join("environment")).unwrap();
        assert!(!own.contains("SINDRI_SWEEP_") && !own.contains("AWS_"), "{own}");
        let open = std::fs::read_to_string(dir.path().join("open")).unwrap();
        assert!(!open.contains("journal"), "{open}");
    });
}

/// A provider with a Packer that hangs.
async fn build_for_ever(dir: &Path) {
    let (aws, client) = (aws(dir), ec2().await);
    let base = client.describe_images().owners("self").send().await.unwrap().images()[0]
        .image_id()
        .unwrap()
        .to_owned();
    let mut record = aws.journal().begin(entry(&aws, Phase::Begun).await).unwrap();
    record.advance(Phase::Building).unwrap();
    things(&client, &base, &record.entry().build.to_string(), &time(1)).await;
    let script = "env > environment; ls -l /proc/self/fd > open; \
                  trap 'sleep 1; touch cleaned; exit 1' TERM; echo ready; while :; do sleep 0.1; done";
    let packer = process::Command::new("sh").args(["-c", script]).cwd(dir);
    let env = environment();
    let then = Some(HandOver { file: record.path(), lock: record.lock_fd(), env: &env });
    let ending = Ending { grace: Duration::from_secs(30), alone: true };
    let output = dir.join("output");
    let following = Following { output: &output, keep: false, ending, then };
    let limits = Limits::cancelled_by(&CancellationToken::new());
    let ready = |line: &str| {
        if line == "ready" {
            println!("\nbuilding");
        }
    };
    Runner::new(PROVIDER).follow(&packer, &following, &limits, ready).await.unwrap();
}
