//! Whether a filter finds a newer source image than the one that an image was built from.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::types::Image as Ami;
use chrono::{DateTime, Utc};

use super::source;
use crate::backends::aws::image::{AwsImageSpec, Source, read};
use crate::backends::aws::region::Region;

/// How long a plan waits for the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The one that came up after `base`, from which an image was built at that time; none where the image starts from one by its
/// id. Where it cannot be looked for there is none either: a plan does without.
pub(super) async fn newer(
    region: &Region,
    spec: &AwsImageSpec,
    base: &str,
    built: DateTime<Utc>,
) -> Option<String> {
    let Source::Newest { name, owners } = &spec.source else { return None };
    let found = fitting(region, spec, name, owners).await;
    let newer = later(&found, base, built)?;
    Some(format!("{} ({})", newer.image_id()?, newer.name().unwrap_or("without a name")))
}

/// What a filter finds, asked once a process.
async fn fitting(region: &Region, spec: &AwsImageSpec, name: &str, owners: &[String]) -> Arc<Vec<Ami>> {
    // Held while asking, so that others wait for the first one instead of asking too.
    let mut known = region.sources.lock().await;
    let filter = (name.to_owned(), owners.to_vec(), spec.arch.name());
    if let Some(found) = known.get(&filter) {
        return Arc::clone(found);
    }
    let asked = source::fitting(region, spec.arch, name, owners);
    let found = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "nobody knows whether there is a newer source image");
            Vec::new()
        }
        Err(_) => {
            tracing::debug!(name, "EC2 did not tell in time whether there is a newer source image");
            Vec::new()
        }
    };
    Arc::clone(known.entry(filter).or_insert(Arc::new(found)))
}

/// The newest, if it is newer than `base`. That one may be gone, and what is there then be older.
fn later<'a>(found: &'a [Ami], base: &str, built: DateTime<Utc>) -> Option<&'a Ami> {
    let newest = found.iter().max_by_key(|ami| source::age(ami))?;
    let is_there = |id| found.iter().any(|ami| ami.image_id() == Some(id));
    let is_newer = newest.image_id() != Some(base) && (is_there(base) || read::created_at(newest) > built);
    is_newer.then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_one_is_told_from_an_older_one() {
        let ami = |(id, day): &(&str, &str)| {
            Ami::builder().image_id(*id).creation_date(format!("2026-01-{day}T00:00:00.000Z")).build()
        };
        let built = "2026-01-15T00:00:00Z".parse().unwrap();
        for (found, newer) in [
            (&[][..], None),
            (&[("base", "10")], None),
            (&[("base", "10"), ("older", "09")], None),
            (&[("base", "10"), ("newer", "11"), ("older", "09")], Some("newer")),
            (&[("newer", "11"), ("newest", "12"), ("base", "10")], Some("newest")),
            // It is gone: what came up before the image was built may be older, too.
            (&[("another", "14")], None),
            (&[("newer", "16")], Some("newer")),
        ] {
            let found: Vec<Ami> = found.iter().map(ami).collect();
            let told = later(&found, "base", built).and_then(Ami::image_id);
            assert_eq!(told, newer, "{found:?}");
        }
    }
}
