//! What a plan for an image says: whether it is built again, and, where it can be known, which image it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tfplugin::{Attr, Diagnostic, Diagnostics, Operation, Path, Plan, PlanRequest, Timeouts, Value};

use super::model::{ImageModel, ImageRequest, Origin, Settings, content};
use super::place::Place;
use super::private::Private;
use super::read::READ;
use super::{ImageResource, lost};
use crate::backends::{About, Backends, ImageSection, template};
use crate::diagnose;
use crate::domain::{Image, Tagging};
use crate::resources::deadline::Time;

impl ImageResource {
    pub(super) async fn plan_image(
        &self,
        request: PlanRequest<'_, ImageModel>,
        plan: &mut Plan<ImageModel>,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostics> {
        let planned = plan.model()?;
        // Without a configured provider (its configuration may still be unknown) there is nobody to ask.
        let Some(backends) = self.provider.backends() else { return Ok(()) };
        let place = Place::configured(&backends, &planned, request.prior).await;
        match (&place, request.prior) {
            (Some(place), None) => plan_place(place, plan),
            (Some(place), Some(prior)) => plan_change(place, prior, &planned, plan),
            (None, _) => {}
        }
        if planned.existing_image_id.is_unknown() {
            plan.unknown("cache_key");
            return Ok(());
        }
        if planned.existing_image_id.is_known() {
            return plan_existing(&planned, &request, plan);
        }
        plan_tags(&planned, &backends.tagging, plan);
        let known = content().all(|path| plan.get(path).is_none_or(Value::is_wholly_known));
        let Some(place) = place.filter(|_| known) else {
            plan.unknown("cache_key");
            plan.require_replace("cache_key");
            return Ok(());
        };
        let mut mistakes = Diagnostics::new();
        let wanted = planned.request(request.config, &place.region, &mut mistakes);
        if wanted.is_none() && request.prior.is_some() && is_unchanged(plan) {
            keep_as_it_is(mistakes, plan, diags);
            return Ok(());
        }
        diags.extend(mistakes);
        let Some(wanted) = wanted else { return Ok(()) };
        plan.set("cache_key", wanted.key.as_str());
        let settings = planned.settings(&backends.tagging);
        diags.extend(diagnose::impossible(
            wanted.target.label_problems(&settings.labels, &settings.distribution),
        ));
        match request.prior {
            Some(prior) => {
                let before = prior.settings(&backends.tagging).max_age;
                plan_existing_object(prior, request.prior_private, before, &settings, plan);
                if !plan.is_replacement() {
                    diags.extend(newer_base(&backends, prior, &wanted).await);
                }
            }
            None if planned.cache.is_unknown() || planned.max_age.is_unknown() => {}
            None => {
                let limit = Timeouts::of(&planned.timeouts, Operation::Read, READ);
                let time = Time::of(&request.cancel, limit, "read");
                let found = settings.cache
                    && self.look_up(&backends, &place, &wanted, &settings, &time, plan).await?;
                if !found {
                    diags.extend(diagnose::impossible(wanted.target.build_problems(&wanted.spec)));
                    diags.extend(diagnose::doubtful(wanted.target.doubts(&wanted.spec)));
                }
            }
        }
        Ok(())
    }

    /// Plans the image that a create would find, and tells whether there is one. An image that this process has read, or that
    /// state names, may be the one that is being replaced, and gone by then: it is not promised.
    async fn look_up(
        &self,
        backends: &Backends,
        place: &Place,
        wanted: &ImageRequest,
        settings: &Settings,
        time: &Time,
        plan: &mut Plan<ImageModel>,
    ) -> Result<bool, Diagnostics> {
        let Some(images) = backends.images(place.cloud, Some(&place.region)) else { return Ok(false) };
        let found = time.look("looking for the image", images.find(&wanted.key)).await;
        let found = found.map_err(|failure| failure.diagnostic("Image look-up failed", time.timeout))?;
        let hit =
            found.iter().find(|image| settings.takes(image, Utc::now()) && !self.seen.contains(&image.id));
        if let Some(image) = hit {
            plan.set("id", image.id.as_str());
            plan.set("image_id", image.id.as_str());
            plan.set("image_name", image.name.as_str());
            plan.set("origin", Origin::Cached.name());
        }
        Ok(hit.is_some())
    }
}

/// Where a new image is to be.
fn plan_place(place: &Place, plan: &mut Plan<ImageModel>) {
    plan.set("cloud", place.cloud);
    plan.set("region", place.region.as_str());
    if About::has_regions(place.cloud) {
        plan.set("store_id", Value::Null);
    }
    if place.cloud != template::CLOUD {
        plan.set("packer_artifacts", Value::Null);
    }
}

/// What not every image has. Where it is null it stays so, and is not "known after apply" with each change.
const NOT_EVERYWHERE: &[&str] = &[
    "packer_artifacts",
    "image_name",
    "created_at",
    "size_bytes",
    "resolved_base",
    "build_duration",
    "log_path",
    "path",
    "format",
    "sha256",
    "store_id",
];

/// What a change of where the image is, and of where else it is, means beside the key.
fn plan_change(place: &Place, prior: &ImageModel, planned: &ImageModel, plan: &mut Plan<ImageModel>) {
    if prior.cloud.is_known() && prior.cloud.known_deref() != Some(place.cloud) {
        plan.require_replace(place.cloud);
    } else if prior.region.is_known() && prior.region.known_deref() != Some(place.region.as_str()) {
        plan.require_replace(Path::from(place.cloud).attr("region"));
    }
    plan.keep_nulls(NOT_EVERYWHERE);
    let copied = |model: &ImageModel| match model.section().map_or(Attr::Null, ImageSection::copies) {
        Attr::Unknown => None,
        regions => Some(regions.known().copied().cloned().unwrap_or_default()),
    };
    let after = copied(planned);
    if after.is_none() || after != copied(prior) {
        plan.unknown("artifacts");
    }
    if lost::is_lost(prior) {
        plan.unknown("artifacts");
        plan.require_replace("artifacts");
    }
}

/// Whether what the user wrote about the content is what the image was built from.
fn is_unchanged(plan: &Plan<ImageModel>) -> bool {
    content().all(|path| plan.prior(path.clone()) == plan.get(path))
}

/// Files that are gone stop nobody from keeping or destroying what was built from them.
fn keep_as_it_is(mistakes: Diagnostics, plan: &mut Plan<ImageModel>, diags: &mut Diagnostics) {
    plan.keep("cache_key");
    for mistake in mistakes {
        let text = format!(
            "{}\nThe configuration is as it was, so the image is kept, whatever its age and state: it cannot be built again like this.",
            mistake.detail
        );
        diags.push(Diagnostic { path: mistake.path, ..Diagnostic::warning(mistake.summary, text) });
    }
}

impl Settings {
    /// Whether an image is young enough.
    pub(super) fn takes(&self, image: &Image, now: DateTime<Utc>) -> bool {
        !self.are_exceeded(Some(image.created_at), now)
    }

    /// Whether an image is to be built again for its age. A plan is made a second time when it is applied, and has to say what it
    /// said: as long as `max_age` is what it was `before`, what counts is the time at which the image was read.
    fn find_too_old(
        &self,
        before: Option<Duration>,
        was_when_read: bool,
        created: Option<DateTime<Utc>>,
    ) -> bool {
        if before == self.max_age {
            return self.max_age.is_some() && was_when_read;
        }
        self.are_exceeded(created, Utc::now())
    }

    /// Whether an image of that time is too old by now.
    pub(super) fn are_exceeded(&self, created: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let age = created.map(|created| (now - created).to_std().unwrap_or_default());
        self.max_age.zip(age).is_some_and(|(max_age, age)| age > max_age)
    }
}

/// An object that is there already: what makes it be built again beside a changed key.
fn plan_existing_object(
    prior: &ImageModel,
    private: &[u8],
    before: Option<Duration>,
    settings: &Settings,
    plan: &mut Plan<ImageModel>,
) {
    let private = Private::read(private);
    if !(private.imported && prior.cache_key.is_null()) {
        plan.require_replace("cache_key");
    }
    if private.sha256.is_some() && private.sha256.as_deref() != prior.sha256.known_deref() {
        plan.unknown("sha256");
        plan.require_replace("sha256");
    }
    let left = prior.packer_artifacts.known().map_or(0, Vec::len);
    if private.made.is_some_and(|made| left < made) {
        plan.unknown("packer_artifacts");
        plan.require_replace("packer_artifacts");
    }
    if settings.find_too_old(before, private.aged, created_at(prior)) {
        plan.unknown("created_at");
        plan.require_replace("created_at");
    }
}

pub(super) fn created_at(prior: &ImageModel) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(prior.created_at.known()?).ok().map(|time| time.to_utc())
}

/// Tells of a base that came up since the image was built: the key holds the base as it is asked for, and stays the same.
async fn newer_base(backends: &Backends, prior: &ImageModel, wanted: &ImageRequest) -> Option<Diagnostic> {
    let (base, built) = (prior.resolved_base.known()?, created_at(prior)?);
    let newer = wanted.target.builder(backends).newer_base(base, built).await?;
    Some(outdated(base, &newer).at(prior.cloud.known_deref()?))
}

fn outdated(base: &str, newer: &str) -> Diagnostic {
    let text = format!(
        "The image was built from {base}, and a new one would start from {newer}. It is kept: a change in `triggers` has it built again, and `max_age` whenever it is that old. `-replace` does, too, where the image is deleted before: with `create_before_destroy`, or while others hold it, the same image is found again."
    );
    Diagnostic::warning("There is a newer base", text)
}

/// An adopted image is known as soon as its id is.
fn plan_existing(
    planned: &ImageModel,
    request: &PlanRequest<'_, ImageModel>,
    plan: &mut Plan<ImageModel>,
) -> Result<(), Diagnostics> {
    plan.set("cache_key", Value::Null);
    if !request.is_create() {
        plan.keep("tags_all");
    }
    if let (true, Attr::Known(id)) = (request.is_create(), &planned.existing_image_id) {
        if id.is_empty() {
            let text = "Write the id of an image, or leave the attribute out.";
            return Err(Diagnostic::error("Empty image id", text).at("existing_image_id").into());
        }
        plan.set("id", id.as_str());
        plan.set("image_id", id.as_str());
        plan.set("origin", Origin::Existing.name());
    }
    Ok(())
}

fn plan_tags(planned: &ImageModel, tagging: &Tagging, plan: &mut Plan<ImageModel>) {
    if planned.tags.is_unknown() || !tagging.is_known() {
        plan.unknown("tags_all");
        return;
    }
    plan.set("tags_all", Value::object(tagging.managed(planned.settings(tagging).labels.tags)));
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_image_is_too_old_when_it_was_so_when_it_was_read() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (before, after, aged, goes) in [
            (hours(1), hours(1), false, false),
            (hours(1), hours(1), true, true),
            // Nothing that was read tells of another age.
            (hours(1000), hours(1), false, true),
            (None, hours(1), false, true),
            (hours(1), hours(1000), true, false),
            (hours(1), None, true, false),
            (None, None, false, false),
        ] {
            let settings = Settings { max_age: after, ..ImageModel::default().settings(&Tagging::default()) };
            let found = settings.find_too_old(before, aged, Some(Utc::now() - TimeDelta::hours(2)));
            assert_eq!(found, goes, "{before:?} {after:?} {aged}");
        }
    }

    #[test]
    fn a_newer_base_is_named_with_the_ways_to_take_it() {
        let told = outdated("ami-1", "ami-2 (debian-12)").to_string();
        for words in ["ami-1", "ami-2 (debian-12)", "triggers", "max_age", "-replace"] {
            assert!(told.contains(words), "no {words} in {told}");
        }
    }
}
