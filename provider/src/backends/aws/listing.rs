//! Objects of one kind in one region, read once a process: hosts read ten objects at a time, and a thousand
//! reads must not be a thousand requests.
//!
//! The first read lists our own objects by tag. An id that is not among them is asked for by id, together
//! with others that come up in the same moment. Our own writes are entered here. Knows no AWS type.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

/// Where objects come from.
#[async_trait]
pub(super) trait Source: Send + Sync {
    /// An object.
    type Object: Clone + Send + Sync;
    /// Why they cannot be read.
    type Error: Send;

    /// All that are ours, by id.
    async fn ours(&self) -> Result<Vec<(String, Self::Object)>, Self::Error>;

    /// Those of these ids that are there.
    async fn some(&self, ids: &[String]) -> Result<Vec<(String, Self::Object)>, Self::Error>;
}

/// How long an absent id waits for others, to be asked for together.
const GATHER: Duration = Duration::from_millis(20);

/// What is known of the objects.
#[derive(Debug)]
pub(super) struct Listing<T> {
    /// By id; `None` for what is known not to be there. Absent as a whole before the first read.
    known: tokio::sync::Mutex<Option<BTreeMap<String, Option<T>>>>,
    /// Ids that somebody waits for.
    wanted: Mutex<BTreeSet<String>>,
    /// Held by whoever asks for them.
    turn: tokio::sync::Mutex<()>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self {
            known: tokio::sync::Mutex::new(None),
            wanted: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
        }
    }
}

impl<T: Clone + Send + Sync> Listing<T> {
    /// One object; `None` when it is not there. May be dropped at any await.
    pub(super) async fn get<S: Source<Object = T>>(
        &self,
        source: &S,
        id: &str,
    ) -> Result<Option<T>, S::Error> {
        if let Some(answer) = self.look(source, id).await? {
            return Ok(answer);
        }
        self.wanted().insert(id.to_owned());
        tokio::time::sleep(GATHER).await;
        let _turn = self.turn.lock().await;
        if let Some(answer) = self.look(source, id).await? {
            return Ok(answer);
        }
        // Whoever had the turn before may have been dropped, and this id with it.
        self.wanted().insert(id.to_owned());
        let ids: Vec<String> = std::mem::take(&mut *self.wanted()).into_iter().collect();
        let found: BTreeMap<String, T> = source.some(&ids).await?.into_iter().collect();
        let answer = found.get(id).cloned();
        if let Some(known) = self.known.lock().await.as_mut() {
            known.extend(ids.into_iter().map(|id| (id.clone(), found.get(&id).cloned())));
        }
        Ok(answer)
    }

    /// All of ours, in the order of their ids.
    pub(super) async fn all<S: Source<Object = T>>(&self, source: &S) -> Result<Vec<T>, S::Error> {
        let mut known = self.known.lock().await;
        let known = self.filled(&mut known, source).await?;
        Ok(known.values().flatten().cloned().collect())
    }

    /// Enters what a write of ours made of an object; `None` when it removed it.
    pub(super) async fn enter(&self, id: &str, object: Option<T>) {
        if let Some(known) = self.known.lock().await.as_mut() {
            known.insert(id.to_owned(), object);
        }
    }

    /// What is known of an id; `None` when nothing is.
    async fn look<S: Source<Object = T>>(&self, source: &S, id: &str) -> Result<Option<Option<T>>, S::Error> {
        // Held while listing, so that others wait for the first one instead of listing too.
        let mut known = self.known.lock().await;
        Ok(self.filled(&mut known, source).await?.get(id).cloned())
    }

    async fn filled<'a, S: Source<Object = T>>(
        &self,
        known: &'a mut Option<BTreeMap<String, Option<T>>>,
        source: &S,
    ) -> Result<&'a BTreeMap<String, Option<T>>, S::Error> {
        if known.is_none() {
            let ours = source.ours().await?;
            *known = Some(ours.into_iter().map(|(id, object)| (id, Some(object))).collect());
        }
        Ok(known.get_or_insert_default())
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Ids below 1000 are ours, up to 1100 somebody else's.
    #[derive(Default)]
    struct Numbers {
        lists: AtomicUsize,
        asked: Mutex<Vec<usize>>,
        refuse: AtomicUsize,
    }

    #[async_trait]
    impl Source for Numbers {
        type Object = usize;
        type Error = ();

        async fn ours(&self) -> Result<Vec<(String, usize)>, ()> {
            self.lists.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self
                .refuse
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
            {
                return Err(());
            }
            Ok((0..1000).map(|id| (id.to_string(), id)).collect())
        }

        async fn some(&self, ids: &[String]) -> Result<Vec<(String, usize)>, ()> {
            self.asked.lock().unwrap().push(ids.len());
            let numbers = ids.iter().filter_map(|id| Some((id.clone(), id.parse().ok()?)));
            Ok(numbers.filter(|(_, number)| *number < 1100).collect())
        }
    }

    #[tokio::test]
    async fn a_thousand_reads_are_one_request() {
        let (source, listing) = (Arc::new(Numbers::default()), Arc::new(Listing::default()));
        let reads = (0..1000).map(|id| {
            let (source, listing) = (Arc::clone(&source), Arc::clone(&listing));
            tokio::spawn(async move { listing.get(source.as_ref(), &id.to_string()).await })
        });
        for (id, read) in futures::future::join_all(reads).await.into_iter().enumerate() {
            assert_eq!(read.unwrap(), Ok(Some(id)));
        }
        assert_eq!(source.lists.load(Ordering::SeqCst), 1);
        assert!(source.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn absent_ids_are_asked_for_together_and_once() {
        let (source, listing) = (Arc::new(Numbers::default()), Arc::new(Listing::default()));
        for _ in 0..2 {
            let reads = (1090..1110).map(|id| {
                let (source, listing) = (Arc::clone(&source), Arc::clone(&listing));
                async move { listing.get(source.as_ref(), &id.to_string()).await }
            });
            for (id, read) in (1090..).zip(futures::future::join_all(reads).await) {
                assert_eq!(read, Ok((id < 1100).then_some(id)));
            }
        }
        assert_eq!(*source.asked.lock().unwrap(), [20]);
    }

    #[tokio::test]
    async fn own_writes_are_seen_and_a_failed_list_is_tried_again() {
        let (source, listing) = (Numbers::default(), Listing::default());
        source.refuse.store(1, Ordering::SeqCst);
        assert_eq!(listing.get(&source, "1").await, Err(()));
        assert_eq!(listing.get(&source, "1").await, Ok(Some(1)));
        listing.enter("1", None).await;
        listing.enter("5000", Some(7)).await;
        assert_eq!(listing.get(&source, "1").await, Ok(None));
        assert_eq!(listing.get(&source, "5000").await, Ok(Some(7)));
        assert_eq!(listing.all(&source).await.unwrap().len(), 1000);
        assert!(source.asked.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_leaves_others_in_peace() {
        let (source, listing) = (Numbers::default(), Listing::default());
        for millis in [1, 15, 40] {
            let read = listing.get(&source, "1050");
            let _ = tokio::time::timeout(Duration::from_millis(millis), read).await;
        }
        assert_eq!(listing.get(&source, "1050").await, Ok(Some(1050)));
    }
}
