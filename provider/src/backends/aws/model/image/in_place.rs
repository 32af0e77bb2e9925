//! What changes in place: copies, sharing and ageing, as they are asked for and as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tfplugin::Attr;

use super::{AwsImageModel, ShareModel};
use crate::domain::distribution::{ages_as, deprecation};
use crate::domain::{Distribution, Image, Share};

impl AwsImageModel {
    /// Where else it is to be, who may use it, and when it ages. All values are known.
    pub(super) fn spread(&self) -> Distribution {
        let after = self.deprecate_after.known();
        Distribution {
            regions: self.ami_regions.clone().unwrap_or_default(),
            share: self.share.known().map(ShareModel::share),
            deprecate_after: after.and_then(|text| tfplugin::parse_duration(text).ok()),
        }
    }

    /// What an import tells of what the user asked for.
    pub(super) fn told_by(image: &Image, home: &str) -> Self {
        let regions: BTreeSet<String> =
            image.artifacts.keys().filter(|name| *name != home).cloned().collect();
        let aged = image.artifacts.get(home).and_then(|artifact| artifact.deprecated_at);
        Self {
            ami_regions: if regions.is_empty() { Attr::Null } else { Attr::Known(regions) },
            deprecate_after: aged.and_then(|at| after(image.created_at, at)).into(),
            ..Self::default()
        }
    }

    /// Keeps what was asked for before beside what is asked for now: not everything of it could be taken back.
    pub(super) fn keep_shares_of(&mut self, prior: &Self) {
        let Some(before) = prior.share.known() else { return };
        let Attr::Known(now) = &mut self.share else {
            self.share = Attr::Known(before.clone());
            return;
        };
        for (now, before) in [
            (&mut now.account_ids, &before.account_ids),
            (&mut now.organization_arns, &before.organization_arns),
        ] {
            if let Some(before) = before.known() {
                let mut all = now.clone().unwrap_or_default();
                all.extend(before.iter().cloned());
                *now = Attr::Known(all);
            }
        }
    }

    /// Takes in what became of the distribution, so that a change from outside shows, and what failed is tried again. A copy that
    /// is not as it should be counts as none: the next apply brings it there in place.
    pub(super) fn take_in(&mut self, image: &Image, home: &str, shared: Option<&BTreeMap<String, Share>>) {
        let due = self.spread().deprecate_after.and_then(|after| deprecation(image.created_at, after));
        let aged = |at: Option<DateTime<Utc>>| due.is_none_or(|due| ages_as(due, at, Utc::now()));
        let shared = |region: &str| shared.and_then(|all| all.get(region));
        if let (Attr::Known(share), Some(shared)) = (&mut self.share, shared(home)) {
            share.observe(shared);
        }
        let share = self.share.known();
        let fits =
            |region: &str| share.zip(shared(region)).is_none_or(|(own, shared)| own.is_what_is(shared));
        if let Attr::Known(regions) = &mut self.ami_regions {
            regions.retain(|region| {
                let copy = image.artifacts.get(region);
                let ready = copy.is_some_and(|copy| aged(copy.deprecated_at)) && fits(region);
                region == home || (ready && !image.unfinished.contains(region))
            });
        }
        let seen = image.artifacts.get(home).and_then(|artifact| artifact.deprecated_at);
        if due.is_some() && !aged(seen) {
            self.deprecate_after = seen.and_then(|at| after(image.created_at, at)).into();
        }
    }
}

impl ShareModel {
    fn share(&self) -> Share {
        let mut with = self.account_ids.clone().unwrap_or_default();
        with.extend(self.organization_arns.clone().unwrap_or_default());
        Share { with, public: self.public.unwrap_or(false) }
    }

    /// Whether a copy is shared like this, whomever else others let use it.
    fn is_what_is(&self, shared: &Share) -> bool {
        let own = self.share();
        own.public == shared.public && own.with.is_subset(&shared.with)
    }

    /// What others share is theirs; that everybody may is not.
    fn observe(&mut self, shared: &Share) {
        for own in [&mut self.account_ids, &mut self.organization_arns] {
            if let Attr::Known(own) = own {
                own.retain(|name| shared.with.contains(name));
            }
        }
        if self.public.is_known() || shared.public {
            self.public = shared.public.into();
        }
    }
}

/// How long after it was finished an image ages, as a user writes it.
fn after(created_at: DateTime<Utc>, at: DateTime<Utc>) -> Option<String> {
    let minutes = (at - created_at).to_std().ok().map(|after: Duration| (after.as_secs() + 30) / 60)?;
    Some(match minutes % 60 {
        0 => format!("{}h", minutes / 60),
        rest => format!("{}h{rest}m", minutes / 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Artifact, Labels};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn image(aged: Option<DateTime<Utc>>, unfinished: &[&str]) -> Image {
        let artifact =
            |id: &str| Artifact { image_id: id.into(), snapshot_ids: Vec::new(), deprecated_at: aged };
        Image {
            id: "ami-1".into(),
            name: "web-1".into(),
            key: None,
            artifacts: ["us-west-2", "eu-west-1", "eu-west-2"]
                .map(|region| (region.to_owned(), artifact(region)))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            unfinished: set(unfinished),
            labels: Labels::default(),
            resolved_base: None,
            created_at: DateTime::from_timestamp(4_000_000_000, 0).unwrap(),
            build_seconds: None,
            size_bytes: 0,
            log_path: None,
            disk: None,
            made: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_in_place_stays_in_state() {
        let share = ShareModel {
            account_ids: Attr::Known(set(&["111111111111", "222222222222"])),
            organization_arns: Attr::Null,
            public: false.into(),
        };
        let model = AwsImageModel {
            ami_regions: Attr::Known(set(&["us-west-2", "eu-west-1", "eu-west-2", "ap-south-1"])),
            deprecate_after: "24h".into(),
            share: Attr::Known(share),
            ..AwsImageModel::default()
        };
        let due = DateTime::from_timestamp(4_000_000_000 + 86400, 0);
        let seen = |aged, unfinished: &[&str], shared: Option<&Share>| {
            let mut seen = model.clone();
            let shared = shared.map(|share| BTreeMap::from([("us-west-2".to_owned(), share.clone())]));
            seen.take_in(&image(aged, unfinished), "us-west-2", shared.as_ref());
            seen
        };
        let shared = Share { with: set(&["111111111111", "999999999999"]), public: true };
        let found = seen(due, &["eu-west-2"], Some(&shared));
        assert_eq!(found.ami_regions, Attr::Known(set(&["us-west-2", "eu-west-1"])));
        assert_eq!(found.deprecate_after, "24h".into());
        let share = found.share.into_known().unwrap();
        assert_eq!(share.account_ids, Attr::Known(set(&["111111111111"])));
        assert_eq!((share.organization_arns, share.public), (Attr::Null, true.into()));

        let later = DateTime::from_timestamp(4_000_000_000 + 90060, 0);
        assert_eq!(seen(later, &[], None).deprecate_after, "25h1m".into());
        let never = seen(None, &[], None);
        assert_eq!(
            (never.deprecate_after, never.ami_regions),
            (Attr::Null, Attr::Known(set(&["us-west-2"])))
        );
    }

    #[test]
    fn a_copy_that_is_shared_otherwise_is_not_in_place() {
        let (one, other) = ("111111111111", "222222222222");
        let model = |public: bool| {
            let account_ids = Attr::Known(set(&[one]));
            let share = ShareModel { account_ids, public: public.into(), ..ShareModel::default() };
            let ami_regions = Attr::Known(set(&["eu-west-1"]));
            AwsImageModel { ami_regions, share: Attr::Known(share), ..AwsImageModel::default() }
        };
        for (with, public, asked, in_place) in [
            (&[one][..], false, false, true),
            (&[one, other], false, false, true),
            (&[other], false, false, false),
            (&[one], true, false, false),
            (&[one], true, true, true),
            (&[one], false, true, false),
        ] {
            let mut model = model(asked);
            let at_home = Share { with: set(&[one]), public: asked };
            let there = Share { with: set(with), public };
            let shared = BTreeMap::from([("us-west-2".into(), at_home), ("eu-west-1".into(), there)]);
            model.take_in(&image(None, &[]), "us-west-2", Some(&shared));
            let seen = model.ami_regions.known().is_some_and(|regions| !regions.is_empty());
            assert_eq!(seen, in_place, "{with:?} {public} {asked}");
        }
    }

    #[test]
    fn an_import_tells_what_there_is() {
        let due = DateTime::from_timestamp(4_000_000_000 + 86400, 0);
        let model = AwsImageModel::told_by(&image(due, &[]), "us-west-2");
        assert_eq!(model.ami_regions, Attr::Known(set(&["eu-west-1", "eu-west-2"])));
        assert_eq!((model.deprecate_after, model.share), ("24h".into(), Attr::Null));
    }
}
