//! Images of templates: found by their key in the records of this computer, read, claimed, deleted.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::records::Record;
use super::{Templates, told};
use crate::domain::{
    Artifact, BackendError, CacheKey, Copies, Holder, Image, ImageBackend, LabelChange, Labels, Made,
    Released, Seen, unless_cancelled,
};
use crate::process::{Turn, claims};

/// How long a record may be locked by somebody else.
const PATIENCE: Duration = Duration::from_secs(30);

/// What state says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What was made of it, and was there when it was last looked at.
    pub made: Vec<Made>,
    /// When it was finished.
    pub created_at: Option<DateTime<Utc>>,
    /// Whether the resource has built it, and not taken somebody else's.
    pub is_own: bool,
    /// Whether its files are on another computer, where nobody here sees them.
    pub are_files_elsewhere: bool,
}

/// Images of templates.
#[derive(Debug)]
pub struct TemplateImages {
    templates: Arc<Templates>,
    known: Option<Known>,
}

impl TemplateImages {
    pub(super) fn new(templates: Arc<Templates>, known: Option<Known>) -> Self {
        Self { templates, known }
    }

    fn known(&self, id: &str) -> Option<&Known> {
        self.known.as_ref().filter(|known| known.id == id)
    }

    fn record(&self, id: &str) -> Result<Option<Record>, BackendError> {
        self.templates.records().get(id).map_err(|error| unreadable(id, error))
    }

    fn is_elsewhere(&self, id: &str, one: &Made) -> bool {
        one.managed && !one.files.is_empty() && self.known(id).is_some_and(|known| known.are_files_elsewhere)
    }

    /// What is there of an image. Files that are elsewhere count as there.
    async fn look(&self, id: &str, made: &[Made]) -> Result<Vec<(Made, Seen)>, BackendError> {
        let mut there = Vec::new();
        for one in made {
            if self.is_elsewhere(id, one) {
                there.push((one.clone(), Seen::default()));
            } else {
                there.extend(self.templates.look(std::slice::from_ref(one)).await?);
            }
        }
        Ok(there)
    }

    /// Changes a record, or does nothing where there is none.
    async fn rewrite(
        &self,
        id: &str,
        change: impl FnOnce(&mut Record) + Send,
    ) -> Result<Option<Record>, BackendError> {
        let _turn = self.turn(id).await?;
        let Some(mut record) = self.record(id)? else { return Ok(None) };
        change(&mut record);
        self.templates.records().put(&record).map_err(|error| unwritable(id, error))?;
        Ok(Some(record))
    }

    /// Nobody has it for longer than a few files take to be written.
    async fn turn(&self, id: &str) -> Result<Turn, BackendError> {
        let (path, doing) =
            (self.templates.records().lock_path(), format!("changing the record of image {id}"));
        let never = CancellationToken::new();
        let turn = tokio::time::timeout(PATIENCE, Turn::wait(&path, &never)).await;
        let turn = turn.unwrap_or_else(|_| {
            let problem = format!("somebody has {} for {PATIENCE:?}", path.display());
            Err(io::Error::other(problem).into())
        });
        turn.map_err(|error| BackendError::failed(doing, error))
    }

    /// Gives up a claim. Returns the record, which is there no more, when nobody else has one; or how many do.
    async fn take_back(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
    ) -> Result<Result<Option<Record>, usize>, BackendError> {
        let _turn = self.turn(id).await?;
        let Some(mut record) = self.record(id)? else { return Ok(Ok(None)) };
        let records = self.templates.records();
        let known = records.holders(&record).map_err(|error| unreadable(id, error))?;
        let gone = std::mem::replace(&mut record.holders, known);
        holder.map(|holder| record.holders.remove(holder));
        let is_held = retain || !record.holders.is_empty();
        // Removed here: from here on nobody finds an image that is half gone.
        let written = if is_held { records.put(&record) } else { records.remove(record.id) };
        written.map_err(|error| unwritable(id, error))?;
        for holder in gone.difference(&record.holders) {
            self.templates.claims.forget(&claims::name(record.id, holder));
            records.remove_claim(record.id, holder).map_err(|error| unwritable(id, error))?;
        }
        Ok(if is_held { Err(record.holders.len()) } else { Ok(Some(record)) })
    }

    /// Leaves an image that somebody else has built. Without its record nobody knows who still needs it.
    async fn let_go(&self, id: &str) -> Result<Released, BackendError> {
        let made = self.known(id).map(|known| known.made.clone()).unwrap_or_default();
        let there = self.look(id, &made).await?;
        Ok(Released::LetGo { what: there.iter().map(|(one, _)| told(one)).collect() })
    }

    async fn found(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        let all = self.templates.records().all();
        let all = all.map_err(|error| BackendError::failed("looking for the image", error))?;
        let mut found = Vec::new();
        for record in all.into_iter().filter(|record| record.key == *key) {
            let there = self.templates.look(&record.made).await?;
            if there.len() == record.made.len() {
                found.push(of_record(record, &there));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl ImageBackend for TemplateImages {
    async fn find(&self, key: &CacheKey) -> Result<Vec<Image>, BackendError> {
        self.found(key).await
    }

    async fn get(&self, id: &str) -> Result<Image, BackendError> {
        let record = self.record(id)?;
        let known = self.known(id).map(|known| known.made.clone());
        let Some(made) = known.or_else(|| record.as_ref().map(|record| record.made.clone())) else {
            return Err(not_found(id));
        };
        let there = self.look(id, &made).await?;
        if there.is_empty() {
            // With other credentials, or a disk that is not mounted, it only seems so: the record has others' claims.
            return Err(not_found(id));
        }
        Ok(match (record, self.known(id)) {
            (Some(record), _) => of_record(record, &there),
            (None, known) => of_state(id, known, &there),
        })
    }

    async fn list(&self) -> Result<Vec<Image>, BackendError> {
        let all = self.templates.records().all();
        let all = all.map_err(|error| BackendError::failed("listing the records of images", error))?;
        let mut images = Vec::new();
        for record in all {
            let there = self.templates.look(&record.made).await?;
            if !there.is_empty() {
                images.push(of_record(record, &there));
            }
        }
        Ok(images)
    }

    async fn inputs(&self, id: &str) -> Result<Value, BackendError> {
        Ok(self.record(id)?.map_or(Value::Null, |record| record.inputs))
    }

    async fn hold(
        &self,
        id: &str,
        holder: &Holder,
        _until: DateTime<Utc>,
        _cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        let _turn = self.turn(id).await?;
        let mut record = self.record(id)?.ok_or_else(|| not_found(id))?;
        let held = self.templates.claim(&mut record, holder);
        held.and_then(|()| self.templates.records().put(&record)).map_err(|error| unwritable(id, error))
    }

    async fn confirm_claim(&self, id: &str, holder: &Holder) -> Result<(), BackendError> {
        let Ok(image) = id.parse::<Uuid>() else { return Ok(()) };
        self.templates.confirm_claim(image, holder).map_err(|error| unwritable(id, error))
    }

    async fn holders(&self, id: &str) -> Result<Vec<Holder>, BackendError> {
        let Some(record) = self.record(id)? else { return Ok(Vec::new()) };
        let holders = self.templates.records().holders(&record).map_err(|error| unreadable(id, error))?;
        Ok(holders.into_iter().collect())
    }

    async fn release(
        &self,
        id: &str,
        holder: Option<&Holder>,
        retain: bool,
        _copies: &Copies,
        cancel: &CancellationToken,
    ) -> Result<Released, BackendError> {
        let record = match self.take_back(id, holder, retain).await? {
            _ if retain => return Ok(Released::Retained),
            Err(others) => return Ok(Released::Held { others }),
            Ok(None) if self.known(id).is_some_and(|known| !known.is_own) => return self.let_go(id).await,
            Ok(record) => record,
        };
        let mut made = self.known(id).map(|known| known.made.clone()).unwrap_or_default();
        let recorded = record.iter().flat_map(|record| &record.made);
        let missing: Vec<Made> = recorded.filter(|one| !made.contains(one)).cloned().collect();
        made.extend(missing);
        let (elsewhere, made): (Vec<Made>, Vec<Made>) =
            made.into_iter().partition(|one| self.is_elsewhere(id, one));
        let deleted = self.templates.delete(id.parse().unwrap_or(Uuid::nil()), &made, cancel).await;
        if let (Err(_), Some(record)) = (&deleted, &record) {
            self.templates.records().put(record).map_err(|error| unwritable(id, error))?;
        }
        let elsewhere = elsewhere.iter().map(|one| format!("{}: it is on another computer", told(one)));
        Ok(Released::Deleted { left: deleted?.into_iter().chain(elsewhere).collect() })
    }

    async fn change(
        &self,
        id: &str,
        _change: &LabelChange,
        inputs: Option<Value>,
        cancel: &CancellationToken,
    ) -> Result<(), BackendError> {
        // What a template makes is labelled by the template.
        let changing = async {
            match inputs {
                Some(inputs) => self.rewrite(id, |record| record.inputs = inputs).await.map(drop),
                None => Ok(()),
            }
        };
        unless_cancelled(&format!("changing image {id}"), changing, cancel).await
    }
}

impl Templates {
    /// Claims an image whose record is written next. The claim goes with this process, until [`Self::confirm_claim`].
    pub(super) fn claim(&self, record: &mut Record, holder: &Holder) -> io::Result<()> {
        if record.holders.insert(holder.clone()) {
            self.claims.make(&claims::name(record.id, holder), &self.records().claim(record.id, holder))?;
        }
        Ok(())
    }

    /// State knows a claim of this process, which stays from here on.
    fn confirm_claim(&self, id: Uuid, holder: &Holder) -> io::Result<()> {
        match self.claims.settle(&claims::name(id, holder))? {
            true => self.records().remove_claim(id, holder),
            false => Ok(()),
        }
    }
}

/// The image of a record, as far as it is there.
pub(super) fn of_record(record: Record, there: &[(Made, Seen)]) -> Image {
    Image {
        key: Some(record.key),
        created_at: record.created_at,
        build_seconds: Some(record.build_seconds),
        log_path: Some(record.log_path),
        ..image(&record.id.to_string(), &record.name, there)
    }
}

fn of_state(id: &str, known: Option<&Known>, there: &[(Made, Seen)]) -> Image {
    let created_at = known.and_then(|known| known.created_at).unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
    Image { created_at, ..image(id, known.map_or("", |known| &known.name), there) }
}

fn image(id: &str, name: &str, there: &[(Made, Seen)]) -> Image {
    Image {
        id: id.to_owned(),
        name: name.to_owned(),
        key: None,
        artifacts: by_region(there),
        unfinished: Default::default(),
        labels: Labels::default(),
        resolved_base: None,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        build_seconds: None,
        size_bytes: there.iter().map(|(_, seen)| seen.size_bytes).sum(),
        log_path: None,
        disk: None,
        made: there.iter().map(|(made, _)| made.clone()).collect(),
    }
}

/// What there is in each region of a cloud, where that is one thing.
fn by_region(there: &[(Made, Seen)]) -> BTreeMap<String, Artifact> {
    let mut all: BTreeMap<String, Vec<&Artifact>> = BTreeMap::new();
    for (region, artifact) in there.iter().filter_map(|(_, seen)| seen.artifact.as_ref()) {
        all.entry(region.clone()).or_default().push(artifact);
    }
    let only = all.into_iter().filter(|(_, artifacts)| artifacts.len() == 1);
    only.map(|(region, artifacts)| (region, artifacts[0].clone())).collect()
}

/// What was made that is not there, in words.
pub(super) fn absent(made: &[Made], there: &[(Made, Seen)]) -> Option<String> {
    made.iter().find(|one| !there.iter().any(|(other, _)| other == *one)).map(told)
}

fn not_found(id: &str) -> BackendError {
    BackendError::NotFound { kind: "image", id: id.to_owned() }
}

fn unreadable(id: &str, error: io::Error) -> BackendError {
    BackendError::failed(format!("reading the record of image {id}"), error)
}

fn unwritable(id: &str, error: io::Error) -> BackendError {
    BackendError::failed(format!("changing the record of image {id}"), error)
}

#[cfg(test)]
mod tests;
