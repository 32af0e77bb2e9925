//! Images on EC2: found, listed, held, relabelled. Against the rig's EC2, which another client fills.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Region;
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use chrono::Utc;
use futures::future::join_all;
use sindri::backends::aws::image::{AmiKeeper, AwsImages};
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::domain::backend::Released;
use sindri::domain::{BackendError, CacheKey, Copies, Holder, ImageBackend, Keeper, LabelChange, Made};
use tokio_util::sync::CancellationToken;

use crate::support::moto::under_moto;

pub(crate) const HOME: &str = "us-west-2";

pub(crate) fn key(digit: &str) -> CacheKey {
    CacheKey::try_from(digit.repeat(63)).unwrap()
}

/// Claims are written down there until they are known.
pub(crate) fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("aws-images")
}

/// Each is a process of its own, as far as what it remembers goes.
pub(crate) fn images() -> AwsImages {
    Arc::new(Aws::new(AwsSettings::default(), data_dir())).images(Some(HOME))
}

/// A claim that is in state.
pub(crate) async fn hold(images: &impl ImageBackend, id: &str, holder: &Holder) {
    images.hold(id, holder, Utc::now(), &go()).await.unwrap();
    images.confirm_claim(id, holder).await.unwrap();
}

/// Nobody stops it.
pub(crate) fn go() -> CancellationToken {
    CancellationToken::new()
}

pub(crate) async fn ec2(region: &'static str) -> Client {
    let config = aws_config::from_env().region(Region::new(region)).load().await;
    Client::new(&config)
}

/// An image as a build leaves it.
pub(crate) async fn register(ec2: &Client, name: &str, tags: &[(&str, &str)]) -> String {
    let mut specification = TagSpecification::builder().resource_type(ResourceType::Image);
    for (key, value) in tags {
        specification = specification.tags(Tag::builder().key(*key).value(*value).build());
    }
    let asked = ec2.register_image().name(name);
    let asked = if tags.is_empty() { asked } else { asked.tag_specifications(specification.build()) };
    asked.send().await.unwrap().image_id.unwrap()
}

pub(crate) async fn snapshots(ec2: &Client) -> usize {
    ec2.describe_snapshots().owner_ids("self").send().await.unwrap().snapshots().len()
}

/// What the snapshots of an image are tagged with.
async fn tags_of_snapshots(ec2: &Client, image: &sindri::domain::Image) -> BTreeMap<String, String> {
    let ids = image.artifacts[HOME].snapshot_ids.clone();
    assert_eq!(ids.len(), 1);
    let found = ec2.describe_snapshots().set_snapshot_ids(Some(ids)).send().await.unwrap();
    let pair = |tag: &Tag| (tag.key().unwrap().to_owned(), tag.value().unwrap().to_owned());
    found.snapshots()[0].tags().iter().map(pair).collect()
}

#[test]
fn complete_images_are_found_the_oldest_first() {
    under_moto("complete_images_are_found_the_oldest_first", async || {
        let client = ec2(HOME).await;
        let (one, other) = (key("1"), key("2"));
        let first = register(&client, "first", &[("sindri_key", one.as_str()), ("team", "a")]).await;
        register(&client, "foreign", &[]).await;
        let second = register(&client, "second", &[("sindri_key", one.as_str())]).await;
        let third = register(&client, "third", &[("sindri_key", other.as_str())]).await;
        let disabled = register(&client, "disabled", &[("sindri_key", one.as_str())]).await;
        client.disable_image().image_id(&disabled).send().await.unwrap();
        let backend = images();
        let ids =
            |found: Vec<sindri::domain::Image>| found.into_iter().map(|image| image.id).collect::<Vec<_>>();
        let found: BTreeSet<String> = ids(backend.find(&one).await.unwrap()).into_iter().collect();
        assert_eq!(found, BTreeSet::from([first.clone(), second]));
        assert_eq!(ids(backend.find(&other).await.unwrap()), [third]);
        assert_eq!(backend.list().await.unwrap().len(), 3);
        assert!(backend.find(&key("3")).await.unwrap().is_empty());
        let image = backend.get(&first).await.unwrap();
        assert_eq!((image.name.as_str(), &image.labels.tags["team"]), ("first", &"a".to_owned()));
        assert!(backend.get("ami-0123456789abcdef0").await.unwrap_err().is_not_found());
    });
}

/// The name of the server stands for a private endpoint, which answers for EC2 in one region: here for nothing at all.
#[test]
fn a_private_endpoint_is_ec2_in_one_region() {
    under_moto("a_private_endpoint_is_ec2_in_one_region", async || {
        let there = register(&ec2("eu-central-1").await, "there", &[("sindri_key", key("1").as_str())]).await;
        let settings = AwsSettings {
            region: Some(HOME.to_owned()),
            endpoint_url: Some("https://ec2.invalid".to_owned()),
            ..AwsSettings::default()
        };
        let aws = Arc::new(Aws::new(settings, data_dir()));
        assert_eq!(aws.account().await.unwrap().len(), 12, "STS is elsewhere");
        assert!(
            Arc::clone(&aws).images(Some("eu-central-1")).get(&there).await.is_ok(),
            "as is another region"
        );
        let refused = aws.images(Some(HOME)).get(&there).await.unwrap_err();
        assert!(sindri::domain::causes(&refused).contains("no answer"), "{refused:?}");
    });
}

/// EC2 is many places, which hear of what was made one after the other.
#[test]
fn what_one_place_has_not_heard_of_is_not_gone() {
    under_moto("what_one_place_has_not_heard_of_is_not_gone", async || {
        let client = ec2(HOME).await;
        let id = register(&client, "new", &[("sindri_key", key("1").as_str())]).await;
        let (backend, holder) = (images(), Holder::random());
        backend.hold(&id, &holder, Utc::now(), &go()).await.unwrap();
        let unheard =
            r#"{"action": "CreateTags", "times": 2, "status": 400, "code": "InvalidAMIID.NotFound"}"#;
        control("faults", reqwest::Method::POST, unheard.to_owned()).await;
        backend.confirm_claim(&id, &holder).await.unwrap();
        let unseen = r#"{"action": "DescribeImages", "kind": "unseen", "times": 2}"#;
        control("faults", reqwest::Method::POST, unseen.to_owned()).await;
        let released = images().release(&id, Some(&holder), false, &Copies::new(), &go()).await.unwrap();
        assert_eq!(released, Released::Deleted { left: Vec::new() });
        heal().await;
        assert!(images().get(&id).await.unwrap_err().is_not_found());
        assert_eq!(snapshots(&client).await, 0);
    });
}

/// A look-up may be as old as the process.
#[test]
fn what_was_disabled_since_it_was_found_is_not_there_to_be_held() {
    under_moto("what_was_disabled_since_it_was_found_is_not_there_to_be_held", async || {
        let client = ec2(HOME).await;
        let (backend, wanted, holder) = (images(), key("1"), Holder::random());
        let id = register(&client, "disabled", &[("sindri_key", wanted.as_str())]).await;
        assert_eq!(backend.find(&wanted).await.unwrap().len(), 1);
        client.disable_image().image_id(&id).send().await.unwrap();
        let gone = backend.hold(&id, &holder, Utc::now(), &go()).await.unwrap_err();
        assert!(gone.is_not_found(), "{gone:?}");
        assert!(backend.holders(&id).await.unwrap().is_empty());
    });
}

#[test]
fn an_image_that_came_up_meanwhile_is_found_by_who_looks_now() {
    under_moto("an_image_that_came_up_meanwhile_is_found_by_who_looks_now", async || {
        let client = ec2(HOME).await;
        let (backend, wanted) = (images(), key("1"));
        assert!(backend.find(&wanted).await.unwrap().is_empty());
        let tags = [("sindri_key", wanted.as_str())];
        let id = register(&client, "late", &tags).await;
        register(&client, "a copy", &[tags[0], ("sindri_copy_of", "eu-central-1/ami-1")]).await;
        assert!(backend.find(&wanted).await.unwrap().is_empty());
        for found in [backend.find_now(&wanted).await.unwrap(), backend.find(&wanted).await.unwrap()] {
            assert_eq!(found.into_iter().map(|image| image.id).collect::<Vec<_>>(), [id.as_str()]);
        }
    });
}

#[test]
fn a_machine_that_has_ended_tells_where_a_build_worked() {
    under_moto("a_machine_that_has_ended_tells_where_a_build_worked", async || {
        let client = ec2("eu-central-1").await;
        let base = register(&client, "base", &[]).await;
        let run = client.run_instances().image_id(base).min_count(1).max_count(1).send().await.unwrap();
        let machine = run.instances()[0].instance_id().unwrap().to_owned();
        client.terminate_instances().instance_ids(&machine).send().await.unwrap();
        let keeper = AmiKeeper::new(Arc::new(Aws::new(AwsSettings::default(), data_dir())));
        let made = |builder_id: &str| Made { builder_id: builder_id.into(), ..Made::default() };
        let other = "i-0123456789abcdef0".to_owned();
        for (builder, machines, expected) in [
            ("mitchellh.amazonebs", vec![machine.clone()], true),
            ("mitchellh.amazonebs", vec![machine.clone(), other], false),
            ("packer.post-processor.amazon-import", vec![machine], false),
        ] {
            let seen = keeper.worked_here(&made(builder), &machines.into_iter().collect()).await;
            assert_eq!(seen.unwrap(), expected, "{builder}");
        }
    });
}

/// Hosts read ten at a time. EC2 gives a thousand on a page; here it gives fewer, so that there are several.
#[test]
fn a_thousand_images_are_read_with_ten_requests() {
    under_moto("a_thousand_images_are_read_with_ten_requests", async || {
        let client = ec2(HOME).await;
        let (mut ids, key) = (Vec::new(), key("1"));
        for some in (0..1000).collect::<Vec<_>>().chunks(20) {
            let names: Vec<String> = some.iter().map(|number| format!("many-{number}")).collect();
            let tags = [("sindri_key", key.as_str())];
            ids.extend(join_all(names.iter().map(|name| register(&client, name, &tags))).await);
        }
        control("pages", reqwest::Method::POST, r#"{"most": 300}"#.to_owned()).await;
        control("requests", reqwest::Method::DELETE, String::new()).await;
        let backend = images();
        for ids in ids.chunks(10) {
            let read = join_all(ids.iter().map(|id| backend.get(id))).await;
            assert!(read.iter().all(Result::is_ok), "{read:?}");
        }
        assert_eq!(backend.list().await.unwrap().len(), 1000);
        let gone = join_all((0..10).map(|number| {
            let (backend, id) = (&backend, format!("ami-0123456789abcde{number:02}"));
            async move { backend.get(&id).await }
        }));
        assert!(gone.await.iter().all(|it| it.as_ref().is_err_and(BackendError::is_not_found)));
        let told = control("requests", reqwest::Method::GET, String::new()).await;
        let requests: BTreeMap<String, u64> = serde_json::from_str(&told).unwrap();
        assert!(requests.values().sum::<u64>() <= 10 && requests["DescribeImages"] >= 4, "{requests:?}");
    });
}

/// From now on AWS does not allow this.
pub(crate) async fn deny(action: &str) {
    let fault =
        format!(r#"{{"action": "{action}", "times": 1000, "status": 403, "code": "UnauthorizedOperation"}}"#);
    control("faults", reqwest::Method::POST, fault).await;
}

/// From now on AWS does not allow this in one region, as an organisation's policy says.
pub(crate) async fn deny_in(region: &str, action: &str) {
    let fault = format!(
        r#"{{"action": "{action}", "region": "{region}", "times": 1000, "status": 403, "code": "UnauthorizedOperation"}}"#
    );
    control("faults", reqwest::Method::POST, fault).await;
}

/// So many requests from now, the next one for this waits for six seconds.
pub(crate) async fn delay(action: &str, after: u32) {
    let fault = format!(r#"{{"action": "{action}", "kind": "late", "seconds": 6, "after": {after}}}"#);
    control("faults", reqwest::Method::POST, fault).await;
}

/// Nothing goes wrong any more.
pub(crate) async fn heal() {
    control("faults", reqwest::Method::DELETE, String::new()).await;
}

/// Asks the emulator itself.
async fn control(what: &str, method: reqwest::Method, body: String) -> String {
    let url = format!("{}/_rig/{what}", std::env::var("AWS_ENDPOINT_URL").unwrap());
    let answer = reqwest::Client::new().request(method, url).body(body).send().await.unwrap();
    answer.error_for_status().unwrap().text().await.unwrap()
}

/// The keys of an image's tags.
pub(crate) async fn tags_of(client: &Client, id: &str) -> Vec<String> {
    let found = client.describe_images().image_ids(id).send().await.unwrap();
    let mut keys: Vec<String> =
        found.images()[0].tags().iter().filter_map(|tag| tag.key().map(str::to_owned)).collect();
    keys.sort();
    keys
}

/// Regions that an organisation denies are listed all the same.
#[test]
fn what_a_template_made_is_found_though_a_region_lets_nobody_in() {
    under_moto("what_a_template_made_is_found_though_a_region_lets_nobody_in", async || {
        let client = ec2("eu-central-1").await;
        let id = register(&client, "of a template", &[]).await;
        for action in ["DescribeImages", "DescribeSnapshots"] {
            deny_in("ap-south-1", action).await;
        }
        let keeper = AmiKeeper::new(Arc::new(Aws::new(AwsSettings::default(), data_dir())));
        let heard = |id: &str| Made {
            builder_id: "mitchellh.amazonebs".into(),
            id: id.into(),
            managed: true,
            ..Made::default()
        };
        let found = keeper.trace(&heard(&id), Utc::now() - chrono::TimeDelta::hours(1)).await.unwrap();
        assert_eq!(found.unwrap().id, format!("eu-central-1:{id}"));
        let refused = keeper.trace(&heard("ami-0123456789abcdef0"), Utc::now()).await.unwrap_err();
        assert!(sindri::domain::causes(&refused).contains("ec2:Describe"), "it may be there: {refused:?}");
    });
}

#[test]
fn a_copy_that_is_about_to_go_keeps_its_labels() {
    under_moto("a_copy_that_is_about_to_go_keeps_its_labels", async || {
        let (here, there) = (ec2(HOME).await, ec2("eu-central-1").await);
        let (key, copy) = (key("1"), register(&there, "copy", &[]).await);
        let tags = [("sindri_key", key.as_str()), ("sindri_copy_eu-central-1", copy.as_str())];
        let id = register(&here, "labelled", &tags).await;
        for action in ["CreateTags", "DescribeImages"] {
            deny_in("eu-central-1", action).await;
        }
        let team = BTreeMap::from([("team".to_owned(), "b".to_owned())]);
        let mut change = LabelChange { set_tags: team, ..LabelChange::default() };
        images().change(&id, &change, None, &go()).await.unwrap_err();
        change.leaves.insert("eu-central-1".to_owned());
        images().change(&id, &change, None, &go()).await.unwrap();
        heal().await;
        assert_eq!(images().get(&id).await.unwrap().labels.tags["team"], "b");
    });
}

/// EC2 refuses all that it was asked for at once.
#[test]
fn an_image_that_is_not_shared_any_more_hides_no_other() {
    under_moto("an_image_that_is_not_shared_any_more_hides_no_other", async || {
        let client = ec2(HOME).await;
        let id = register(&client, "foreign", &[]).await;
        let fault = r#"{"action": "DescribeImages", "after": 1, "status": 400, "code": "AuthFailure", "message": "Not authorized for images: [ami-2]"}"#;
        control("faults", reqwest::Method::POST, fault.to_owned()).await;
        assert!(images().get(&id).await.is_ok());
    });
}

#[test]
fn labels_change_by_difference() {
    under_moto("labels_change_by_difference", async || {
        let client = ec2(HOME).await;
        let tags =
            [("sindri_key", key("1").as_str().to_owned()), ("theirs", "1".into()), ("drop", "1".into())];
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let id = register(&client, "labelled", &tags).await;
        let backend = images();
        backend.get(&id).await.unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let change = LabelChange {
            set_tags: BTreeMap::from([("team".to_owned(), "b".to_owned())]),
            remove_tags: names(&["drop"]),
            add_channels: names(&["production", "development"]),
            ..LabelChange::default()
        };
        backend.change(&id, &change, None, &go()).await.unwrap();
        let change = LabelChange { remove_channels: names(&["development"]), ..LabelChange::default() };
        backend.change(&id, &change, None, &go()).await.unwrap();
        for image in [backend.get(&id).await.unwrap(), images().get(&id).await.unwrap()] {
            let expected =
                [("team", "b"), ("theirs", "1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(image.labels.tags, BTreeMap::from(expected));
            assert_eq!(image.labels.channels, names(&["production"]));
        }
    });
}

/// Whose snapshots others' images are made of is not ours to know.
#[test]
fn snapshots_are_tagged_like_an_image_of_ours() {
    under_moto("snapshots_are_tagged_like_an_image_of_ours", async || {
        let client = ec2(HOME).await;
        let change = |set: &[(&str, &str)], remove: &[&str]| LabelChange {
            set_tags: set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            remove_tags: remove.iter().map(|key| (*key).to_owned()).collect(),
            add_channels: BTreeSet::from(["production".to_owned()]),
            ..LabelChange::default()
        };
        let key = key("1");
        for (name, tags, are_ours) in
            [("ours", &[("sindri_key", key.as_str())][..], true), ("foreign", &[], false)]
        {
            let id = register(&client, name, tags).await;
            let first = change(&[("team", "a"), ("drop", "1")], &[]);
            images().change(&id, &first, None, &go()).await.unwrap();
            images().change(&id, &change(&[("team", "b")], &["drop"]), None, &go()).await.unwrap();
            let image = images().get(&id).await.unwrap();
            assert_eq!(image.labels.tags["team"], "b");
            let expected = if are_ours { image.labels.tags.clone() } else { BTreeMap::new() };
            assert_eq!(tags_of_snapshots(&client, &image).await, expected, "{name}");
        }
    });
}
