//! Removes old images that nobody holds, and what the cache keeps for builds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::Local;
use super::image::{self, PrunedTrees};
use super::store::{Store, StoreError};
use crate::domain::{BackendError, Image, Released};

/// An image that went, or would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruned {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was finished.
    pub created_at: DateTime<Utc>,
    /// Bytes of the disk that are free then: none of what a machine uses, too.
    pub freed: u64,
}

impl Local {
    /// Removes images that nobody holds, but for the newest `keep` of each name prefix. Returns what was removed, the oldest
    /// first; with `dry`, what would be.
    ///
    /// # Errors
    /// When the store cannot be read or changed.
    pub async fn prune(
        &self,
        keep: usize,
        dry: bool,
        cancel: &CancellationToken,
    ) -> Result<Vec<Pruned>, BackendError> {
        self.in_store("removing old images", cancel, move |store| prune(store, keep, dry)).await
    }

    /// Removes the trees in the cache that no build uses; with `dry`, tells what would be removed.
    ///
    /// # Errors
    /// When one of them cannot be looked at or removed.
    pub async fn prune_layers(&self, dry: bool) -> Result<PrunedTrees, BackendError> {
        let pruned = image::prune(&self.host(), dry).await;
        pruned.map_err(|error| BackendError::failed("removing layers from the cache", error))
    }
}

fn prune(store: &Store, keep: usize, dry: bool) -> Result<Vec<Pruned>, StoreError> {
    let mut unheld = Vec::new();
    for image in store.list()? {
        if store.holders(&image.id)?.is_empty() {
            unheld.push(image);
        }
    }
    let mut pruned = Vec::new();
    for Image { id, name, created_at, .. } in surplus(unheld, keep) {
        let freed = store.own_bytes(&id)?;
        // Whoever claimed it since we looked needs it; so does whoever removed it.
        let goes = dry
            || match store.release(&id, None, false) {
                Ok(released) => matches!(released, Released::Deleted { .. }),
                Err(StoreError::NotFound { .. }) => false,
                Err(error) => return Err(error),
            };
        if goes {
            pruned.push(Pruned { id, name, created_at, freed });
        }
    }
    Ok(pruned)
}

/// All but the newest `keep` of each prefix; both lists have the oldest first.
fn surplus(images: Vec<Image>, keep: usize) -> Vec<Image> {
    let mut newer: BTreeMap<String, usize> = BTreeMap::new();
    let mut surplus: Vec<Image> = images
        .into_iter()
        .rev()
        .filter(|image| {
            let newer = newer.entry(image.prefix().to_owned()).or_default();
            *newer += 1;
            *newer > keep
        })
        .collect();
    surplus.reverse();
    surplus
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::store::tests::{Fixture, fixture, holder, key, put, put_named};
    use super::*;

    fn pruned(store: &Store, keep: usize, dry: bool) -> Vec<String> {
        prune(store, keep, dry).unwrap().into_iter().map(|one| one.id).collect()
    }

    /// As builds name them.
    fn named(store: &Store, prefix: &str, digit: char, age: i64) -> String {
        let key = key(digit);
        put_named(store, &format!("{prefix}-{}-0a1b2c", key.short()), &key, age).id
    }

    #[test]
    fn the_newest_of_each_prefix_stay_and_what_is_held() {
        let Fixture { store, .. } = &fixture();
        let [new, middle, old] = [1, 2, 3].map(|age| named(store, "dev", 'a', age));
        let web = named(store, "dev-web", 'b', 9);
        // Held ones count for nothing: neither are they removed, nor does one less stay for them.
        let held = named(store, "dev", 'c', 0);
        store.hold(&held, &holder('1')).unwrap();
        let everything = [&web, &old, &middle, &new].map(String::clone);
        for (keep, expected) in [(3, &everything[..0]), (2, &everything[1..2]), (1, &everything[1..3])] {
            assert_eq!(pruned(store, keep, true), expected, "{keep}");
        }
        assert_eq!(pruned(store, 0, true), everything);
        assert_eq!(store.list().unwrap().len(), 5, "that was a dry run");
        assert_eq!(pruned(store, 2, false), [old]);
        assert_eq!(pruned(store, 2, false), [""; 0]);
        assert_eq!(pruned(store, 0, false), [web, middle, new]);
        assert_eq!(store.list().unwrap().iter().map(|image| &image.id).collect::<Vec<_>>(), [&held]);
    }

    #[test]
    fn what_is_being_built_stays() {
        let Fixture { store, .. } = &fixture();
        let building = store.begin(uuid::Uuid::new_v4()).unwrap();
        assert_eq!(pruned(store, 0, false), [""; 0]);
        assert!(building.dir().exists());
    }

    #[test]
    fn a_disk_that_a_machine_uses_frees_nothing() {
        let Fixture { store, .. } = &fixture();
        let image = put(store, &key('a'), 1);
        let disk = image.disk.unwrap().path;
        fs::write(&disk, vec![1; 1 << 20]).unwrap();
        let freed = |expected: std::ops::Range<u64>| {
            let one = prune(store, 0, true).unwrap().remove(0);
            assert!(expected.contains(&one.freed), "{one:?}");
        };
        freed(1 << 20..2 << 20);
        fs::hard_link(&disk, store.root().join("of a machine")).unwrap();
        freed(0..1 << 20);
    }
}
