//! What killed builds and applies left on the rig's EC2, as the journal on this computer knows of it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Region;
use aws_sdk_ec2::types::{ResourceType, Tag};
use chrono::{TimeDelta, Utc};
use sindri::backends::aws::sweep::{How, Swept, environment};
use sindri::domain::{CacheKey, Copies, Holder, ImageBackend, Released};
use sindri::journal::{Entry, Phase};
use sindri::process::{self, Ending, Following, HandOver, Limits, Runner};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::aws_sweep::{
    HOME, KINDS, NOTHING, PROVIDER, aws, base, by_hand, deny, ec2, entry, fault, inventory, tags, things,
    time,
};
use crate::support::moto::under_moto;

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
                "aws_journal::a_killed_providers_supervisor_removes_what_its_build_made",
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
