//! What is written of what is begun in a cloud.

use acceptance_tests::only_root;
use chrono::Utc;
use sindri::diagnose;
use sindri::journal::{Journal, Launch};
use uuid::Uuid;

use super::{House, list};
use crate::support::small_disk::Points;

#[test]
fn what_is_begun_in_a_cloud() {
    if !only_root("mount a small disk").unwrap() {
        return;
    }
    let house = House::new();
    let journal = Journal::of_launches(house.local.store.root());
    let mut points = Points::new();
    for by_files in [false, true] {
        let mut failures = 0;
        let record = loop {
            let point = if by_files { points.files(&house.disk) } else { points.space(&house.disk) };
            let launch = Launch {
                launch: Uuid::new_v4(),
                cloud: "aws".into(),
                region: "us-west-2".into(),
                name: "web".into(),
                access: serde_json::Value::Null,
                started_at: Utc::now(),
                deadline: Utc::now(),
            };
            match journal.begin(launch) {
                Ok(record) => break record,
                Err(error) => {
                    failures += 1;
                    let told = diagnose::chain(&error);
                    for words in ["o space left", "launches", "`data_dir`"] {
                        assert!(told.contains(words), "{point}: no {words:?} in {told}");
                    }
                    let mut left = Vec::new();
                    list(&house.local.store.root().join("launches"), &mut left);
                    assert!(left.is_empty(), "{point}: {left:?}");
                }
            }
        };
        assert!(failures > usize::from(by_files), "{failures}");
        record.end().unwrap();
        house.assert_nothing_left("it has ended");
    }
}
