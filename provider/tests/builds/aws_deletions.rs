//! Images on the rig's EC2 that are let go of and deleted: by several at once, by who may not, and cut off halfway.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use chrono::Utc;
use sindri::backends::aws::image::AmiKeeper;
use sindri::backends::aws::sweep::How;
use sindri::backends::aws::{Aws, AwsSettings};
use sindri::domain::backend::Released;
use sindri::domain::{BackendError, Copies, Holder, ImageBackend, Keeper, Made};

use crate::aws_images::{
    HOME, data_dir, delay, deny, deny_in, ec2, go, heal, hold, images, key, register, snapshots, tags_of,
};
use crate::support::moto::under_moto;

#[test]
fn the_last_holder_deletes_an_image_with_its_copies() {
    under_moto("the_last_holder_deletes_an_image_with_its_copies", async || {
        let (here, there) = (ec2(HOME).await, ec2("eu-central-1").await);
        let copy = register(&there, "copy", &[]).await;
        let tags = [("sindri_key", key("1").as_str().to_owned()), ("sindri_copy_eu-central-1", copy.clone())];
        let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let id = register(&here, "held", &tags).await;
        let backend = images();
        let (one, other) = (Holder::random(), Holder::random());
        for holder in [&one, &other, &one] {
            hold(&backend, &id, holder).await;
        }
        let mut holders = backend.holders(&id).await.unwrap();
        holders.sort();
        let mut expected = vec![one.clone(), other.clone()];
        expected.sort();
        assert_eq!(holders, expected);
        assert_eq!(
            backend.release(&id, Some(&one), false, &Copies::new(), &go()).await.unwrap(),
            Released::Held { others: 1 }
        );
        assert_eq!(backend.get(&id).await.unwrap().artifacts["eu-central-1"].image_id, copy);
        let deleted = images().release(&id, Some(&other), false, &Copies::new(), &go()).await.unwrap();
        assert_eq!(deleted, Released::Deleted { left: Vec::new() });
        assert_eq!((snapshots(&here).await, snapshots(&there).await), (0, 0));
        assert!(images().get(&id).await.unwrap_err().is_not_found());
        assert!(images().release(&id, None, false, &Copies::new(), &go()).await.unwrap_err().is_not_found());
    });
}

/// Each has read that the other holds it.
#[test]
fn of_two_that_let_go_at_once_one_deletes_the_image() {
    under_moto("of_two_that_let_go_at_once_one_deletes_the_image", async || {
        let client = ec2(HOME).await;
        for number in 0..10 {
            let id = register(&client, &format!("held-{number}"), &[("sindri_key", key("1").as_str())]).await;
            let (one, other) = (Holder::random(), Holder::random());
            for holder in [&one, &other] {
                hold(&images(), &id, holder).await;
            }
            let (here, there, none, go) = (images(), images(), Copies::new(), go());
            let released = tokio::join!(
                here.release(&id, Some(&one), false, &none, &go),
                there.release(&id, Some(&other), false, &none, &go)
            );
            for one in [released.0, released.1] {
                assert!(one.is_ok() || one.as_ref().is_err_and(|error| error.is_not_found()), "{one:?}");
            }
            assert!(images().get(&id).await.unwrap_err().is_not_found());
            assert_eq!(snapshots(&client).await, 0);
        }
    });
}

#[test]
fn a_stop_ends_a_deletion() {
    under_moto("a_stop_ends_a_deletion", async || {
        let client = ec2(HOME).await;
        let id = register(&client, "stays", &[("sindri_key", key("1").as_str())]).await;
        let stop = go();
        stop.cancel();
        let stopped = images().release(&id, None, false, &Copies::new(), &stop).await.unwrap_err();
        assert!(matches!(stopped, BackendError::Cancelled { .. }), "{stopped:?}");
        assert!(images().get(&id).await.is_ok());
    });
}

/// As copies are that were deregistered while EC2 was still making them.
#[test]
fn what_a_lost_image_left_goes_with_it() {
    under_moto("what_a_lost_image_left_goes_with_it", async || {
        let client = ec2(HOME).await;
        let volume = client.create_volume().availability_zone("us-west-2a").size(1).send().await.unwrap();
        let volume = volume.volume_id.unwrap();
        let ours = Tag::builder().key("sindri_key").value("x").build();
        let ours = TagSpecification::builder().resource_type(ResourceType::Snapshot).tags(ours).build();
        let id = "ami-0123456789abcdef0";
        for (text, tags) in [
            (format!("Copied for DestinationAmi {id} from SourceAmi ami-1 for SourceSnapshot snap-1."), true),
            (format!("Copied for DestinationAmi ami-2 from SourceAmi {id} for SourceSnapshot snap-1."), true),
            (format!("Created by CreateImage(i-1) for {id}"), false),
        ] {
            let asked = client.create_snapshot().volume_id(&volume).description(text);
            asked.set_tag_specifications(tags.then(|| vec![ours.clone()])).send().await.unwrap();
        }
        let remains = images().remains(id).await.unwrap();
        assert!(remains.len() == 1 && remains[0].starts_with("snapshot snap-"), "{remains:?}");
        let gone = images().release(id, None, false, &Copies::new(), &go()).await.unwrap_err();
        assert!(gone.is_not_found(), "{gone:?}");
        assert_eq!(snapshots(&client).await, 2);
        assert!(images().remains(id).await.unwrap().is_empty());
        // A template's AMI has no tags of ours: the second try finds what the first one had not come to.
        let keeper = AmiKeeper::new(Arc::new(Aws::new(AwsSettings::default(), "/nonexistent".into())));
        let (builder_id, id) = ("mitchellh.amazonebs".to_owned(), format!("{HOME}:{id}"));
        let made = Made { builder_id, id, managed: true, ..Made::default() };
        assert_eq!(keeper.delete(&made, &go()).await.unwrap(), Vec::<String>::new());
        assert_eq!(snapshots(&client).await, 1);
    });
}

/// Their builders register a snapshot that says nothing of the AMI.
#[test]
fn a_deletion_of_a_templates_image_that_was_cut_off_is_taken_up() {
    under_moto("a_deletion_of_a_templates_image_that_was_cut_off_is_taken_up", async || {
        let client = ec2(HOME).await;
        let aws = || Arc::new(Aws::new(AwsSettings::default(), data_dir()));
        for swept in [false, true] {
            let id = register(&client, "of a template", &[]).await;
            let builder_id = "mitchellh.amazon.chroot".to_owned();
            let made = Made { builder_id, id: format!("{HOME}:{id}"), managed: true, ..Made::default() };
            let keeper = AmiKeeper::new(aws());
            assert!(!keeper.was_here(&made).await.unwrap());
            deny("DeleteSnapshot").await;
            keeper.delete(&made, &go()).await.unwrap_err();
            heal().await;
            assert!(AmiKeeper::new(aws()).look(&made).await.unwrap().is_none());
            assert_eq!(snapshots(&client).await, 1);
            assert!(keeper.was_here(&made).await.unwrap());
            let sweep = async || aws().sweep_overdue(Some(HOME), How::Really, &go()).await.unwrap();
            assert!(sweep().await.is_empty(), "the deletion may still go on");
            if swept {
                let found = client.describe_snapshots().owner_ids("self").send().await.unwrap();
                let snapshot = found.snapshots()[0].snapshot_id().unwrap();
                let past = Tag::builder().key("sindri_deadline").value("2026-01-01T00:00:00Z").build();
                client.create_tags().resources(snapshot).tags(past).send().await.unwrap();
                assert_eq!(sweep().await.len(), 1);
            } else {
                AmiKeeper::new(aws()).delete(&made, &go()).await.unwrap();
            }
            assert_eq!(snapshots(&client).await, 0);
        }
    });
}

#[test]
fn what_is_not_ours_or_is_to_stay_is_not_deleted() {
    under_moto("what_is_not_ours_or_is_to_stay_is_not_deleted", async || {
        let client = ec2(HOME).await;
        let id = register(&client, "ours", &[("sindri_key", key("1").as_str())]).await;
        let backend = images();
        let holder = Holder::random();
        hold(&backend, &id, &holder).await;
        assert_eq!(
            backend.release(&id, Some(&holder), true, &Copies::new(), &go()).await.unwrap(),
            Released::Retained
        );
        assert!(backend.holders(&id).await.unwrap().is_empty());
        let tag = Tag::builder().key("sindri_key").build();
        client.delete_tags().resources(&id).tags(tag).send().await.unwrap();
        let refused = images().release(&id, None, false, &Copies::new(), &go()).await.unwrap_err();
        assert!(sindri::domain::causes(&refused).contains("sindri_key"), "{refused}");
        assert!(images().get(&id).await.is_ok());
    });
}

#[test]
fn who_may_not_delete_an_image_lets_go_of_it() {
    under_moto("who_may_not_delete_an_image_lets_go_of_it", async || {
        let (client, key, none) = (ec2(HOME).await, key("1"), Copies::new());
        let id = register(&client, "theirs to delete", &[("sindri_key", key.as_str())]).await;
        let (one, other) = (Holder::random(), Holder::random());
        hold(&images(), &id, &one).await;
        deny("DeregisterImage").await;
        let released = images().release(&id, Some(&one), false, &none, &go()).await.unwrap();
        let Released::Forbidden { what, why } = released else { panic!("{released:?}") };
        assert!(
            what[0] == format!("image {id} in {HOME}") && what[1].starts_with("snapshot snap-"),
            "{what:?}"
        );
        assert!(why.contains("ec2:DeregisterImage"), "{why}");
        heal().await;
        assert!(images().holders(&id).await.unwrap().is_empty());
        assert_eq!(images().find(&key).await.unwrap().len(), 1, "whoever may delete it finds it");
        assert_eq!(tags_of(&client, &id).await, ["sindri_build", "sindri_key"]);
        hold(&images(), &id, &other).await;
        let released = images().release(&id, Some(&other), false, &none, &go()).await.unwrap();
        assert_eq!(released, Released::Deleted { left: Vec::new() });
    });
}

/// State alone would know of the rest.
#[test]
fn a_region_of_a_copy_that_denies_keeps_the_image_known() {
    under_moto("a_region_of_a_copy_that_denies_keeps_the_image_known", async || {
        let (here, there) = (ec2(HOME).await, ec2("eu-central-1").await);
        let (one, key, none) = (Holder::random(), key("1"), Copies::new());
        let copy = register(&there, "copy", &[]).await;
        let tags = [("sindri_key", key.as_str()), ("sindri_copy_eu-central-1", copy.as_str())];
        let id = register(&here, "held", &tags).await;
        hold(&images(), &id, &one).await;
        deny_in("eu-central-1", "DeregisterImage").await;
        let denied = images().release(&id, Some(&one), false, &none, &go()).await.unwrap_err();
        assert!(sindri::domain::causes(&denied).contains("ec2:DeregisterImage"), "{denied}");
        heal().await;
        let released = images().release(&id, Some(&one), false, &none, &go()).await.unwrap();
        assert_eq!(released, Released::Deleted { left: Vec::new() });
        assert!(images().get(&id).await.unwrap_err().is_not_found());
    });
}

/// The claim comes while the image is being deregistered, or just before it is looked at for the last time.
#[test]
fn a_claim_and_a_deletion_at_once_end_with_one_of_them() {
    under_moto("a_claim_and_a_deletion_at_once_end_with_one_of_them", async || {
        let (client, key, none) = (ec2(HOME).await, key("1"), Copies::new());
        for (name, action, after, survives) in
            [("late", "DeregisterImage", 0, false), ("early", "DeleteTags", 1, true)]
        {
            let id = register(&client, name, &[("sindri_key", key.as_str())]).await;
            let (one, other) = (Holder::random(), Holder::random());
            hold(&images(), &id, &one).await;
            delay(action, after).await;
            let (here, there, go) = (images(), images(), go());
            let (released, held) = tokio::join!(here.release(&id, Some(&one), false, &none, &go), async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                there.hold(&id, &other, Utc::now(), &go).await
            });
            heal().await;
            let left = images().find(&key).await.unwrap();
            if survives {
                assert_eq!(released.unwrap(), Released::Held { others: 1 }, "{name}");
                held.unwrap();
                assert_eq!((left.len(), images().holders(&id).await.unwrap()), (1, vec![other]), "{name}");
            } else {
                assert_eq!(released.unwrap(), Released::Deleted { left: Vec::new() }, "{name}");
                assert!(held.unwrap_err().is_not_found() && left.is_empty(), "{name}");
            }
        }
    });
}

#[test]
fn a_deletion_that_was_cut_off_is_waited_for_taken_up_and_swept() {
    under_moto("a_deletion_that_was_cut_off_is_waited_for_taken_up_and_swept", async || {
        let (client, key, none) = (ec2(HOME).await, key("1"), Copies::new());
        let (holder, other) = (Holder::random(), Holder::random());
        let held = format!("sindri_holder_{other}");
        let build = uuid::Uuid::new_v4().to_string();
        let deleting = [
            ("sindri_deleting", key.as_str()),
            ("sindri_build", build.as_str()),
            ("sindri_deadline", "2026-01-02T03:04:05Z"),
        ];
        let id = register(&client, "put back", &deleting).await;
        let (backend, stop) = (images(), go());
        let (claimed, ()) = tokio::join!(backend.hold(&id, &holder, Utc::now(), &stop), async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let tag = Tag::builder().key("sindri_key").value(key.as_str()).build();
            client.create_tags().resources(&id).tags(tag).send().await.unwrap();
        });
        claimed.unwrap();
        let id = register(&client, "taken up", &deleting).await;
        let released = images().release(&id, Some(&holder), false, &none, &go()).await.unwrap();
        assert_eq!(released, Released::Deleted { left: Vec::new() });
        let swept = register(&client, "swept", &deleting).await;
        let kept = register(&client, "held", &[&deleting[..], &[(held.as_str(), "held")]].concat()).await;
        let aws = Aws::new(AwsSettings::default(), data_dir());
        aws.sweep_overdue(Some(HOME), How::Really, &go()).await.unwrap();
        assert!(images().get(&swept).await.unwrap_err().is_not_found());
        assert!(images().get(&kept).await.is_ok(), "somebody holds it");
        let released = images().release(&kept, Some(&holder), false, &none, &go()).await.unwrap();
        assert_eq!(released, Released::Held { others: 1 });
        assert!(tags_of(&client, &kept).await.contains(&"sindri_key".to_owned()));
    });
}
