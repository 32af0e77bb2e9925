//! Claims on images that only this process knows of. A claim is a tag, and one whose holder no state knows would keep its
//! image for ever: until it is in state it is in the journal, where it counts as abandoned when this process ends. Where the
//! journal is lost, too, the claim's time ends it, which is its tag's value until then.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::backends::aws::sweep::over_by;
use crate::backends::aws::{Aws, AwsError, CLOUD};
use crate::domain::{Holder, Image};
use crate::journal::{Entry, JournalError, Phase, Record};

/// Their entries, by holder.
#[derive(Debug, Default)]
pub(in crate::backends::aws) struct Claims(Mutex<BTreeMap<Holder, Record>>);

impl Claims {
    /// The claim is made, and stays when state knows it.
    pub(super) fn add(&self, record: Record) {
        let holder = record.entry().holder.clone();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(holder, record);
    }

    /// Whether there is one of this holder.
    pub(super) fn has(&self, holder: &Holder) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(holder)
    }

    /// State knows the holder, or it holds nothing any more.
    ///
    /// # Errors
    /// When the journal cannot be written: whoever comes next takes the claim for abandoned.
    pub(super) fn settle(&self, holder: &Holder) -> Result<(), JournalError> {
        let record = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(holder);
        let Some(mut record) = record else { return Ok(()) };
        match record.entry().phase.clone() {
            // What else there is of the build is still to be removed.
            Phase::Claimed { image_id, alone: false } => record.advance(Phase::Complete { image_id }),
            _ => record.end(),
        }
    }
}

impl Aws {
    /// An entry for a claim on an image that is there already.
    ///
    /// # Errors
    /// When AWS does not tell whose the credentials are.
    pub(super) async fn claim(
        &self,
        region: &str,
        image: &Image,
        holder: &Holder,
        until: DateTime<Utc>,
    ) -> Result<Option<Entry>, AwsError> {
        let Some(key) = image.key.clone() else { return Ok(None) };
        Ok(Some(Entry {
            build: Uuid::new_v4(),
            cloud: CLOUD.to_owned(),
            region: region.to_owned(),
            name: image.name.clone(),
            key,
            share: true,
            holder: holder.clone(),
            tags: BTreeMap::new(),
            access: self.access().await?,
            started_at: Utc::now(),
            deadline: over_by(until),
            phase: Phase::Claimed { image_id: image.id.clone(), alone: true },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::CacheKey;
    use crate::journal::Journal;

    #[test]
    fn a_claim_is_abandoned_unless_state_knows_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path());
        let image_id = || "ami-1".to_owned();
        for (alone, is_known, left) in [
            (true, true, None),
            (false, true, Some(Phase::Complete { image_id: image_id() })),
            (true, false, Some(Phase::Claimed { image_id: image_id(), alone: true })),
        ] {
            let (claims, holder) = (Claims::default(), Holder::random());
            let entry = Entry {
                build: Uuid::new_v4(),
                cloud: CLOUD.to_owned(),
                region: "us-west-2".to_owned(),
                name: "web-1".to_owned(),
                key: CacheKey::try_from("a".repeat(63)).unwrap(),
                share: true,
                holder: holder.clone(),
                tags: BTreeMap::new(),
                access: serde_json::Value::Null,
                started_at: Utc::now(),
                deadline: Utc::now(),
                phase: Phase::Claimed { image_id: image_id(), alone },
            };
            claims.add(journal.begin(entry).unwrap());
            claims.settle(&Holder::random()).unwrap();
            assert!(journal.abandoned().unwrap().is_empty(), "it is held by this process");
            if is_known {
                claims.settle(&holder).unwrap();
            }
            drop(claims);
            let mut found = journal.abandoned().unwrap();
            // A process that another test starts in this moment has the lock, too, until it is another program.
            for _ in 0..100 {
                if found.is_empty() == left.is_none() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
                found = journal.abandoned().unwrap();
            }
            assert_eq!(found.first().map(|record| record.entry().phase.clone()), left, "{alone} {is_known}");
            if let Some(record) = found.pop() {
                record.end().unwrap();
            }
        }
    }
}
