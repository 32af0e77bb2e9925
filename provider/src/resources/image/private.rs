//! What we keep beside an image's state, out of the user's sight.

use serde::{Deserialize, Serialize};

use super::model::{ImageModel, Origin};
use crate::backends::{LOCAL, template};
use crate::domain::Holder;

/// The private data of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Private {
    /// This resource's claim.
    pub(super) holder: Option<String>,
    /// The account of the cloud that the image is in.
    pub(super) account: Option<String>,
    /// The disk's digest when it was made: another one in state means that somebody altered it.
    pub(super) sha256: Option<String>,
    /// How many things there were of an image of a template: fewer in state mean that some are gone.
    pub(super) made: Option<usize>,
    /// Which local store has the files of an image of a template that consists of other things, too: those are not out of
    /// reach where the store is.
    pub(super) files_store: Option<String>,
    /// Taken over from another provider, which does not tell what was built: there is nothing to be looked at.
    pub(super) moved: bool,
    /// Set for an adopted image, which is never deleted.
    pub(super) adopted: bool,
    /// Imported from a cloud, which does not tell what the user asked for: what the state lacks is recorded by the next
    /// apply, and no reason to build the image again.
    pub(super) imported: bool,
    /// When it was read, it was older than its `max_age`. A plan that is applied later is made again then, without a read, and
    /// must say what it said.
    pub(super) aged: bool,
}

impl Private {
    /// With this claim.
    pub(super) fn held_by(holder: &Holder) -> Self {
        Self { holder: Some(holder.to_string()), ..Self::default() }
    }

    /// The claim.
    pub(super) fn holder(&self) -> Option<Holder> {
        Holder::parse(self.holder.as_deref()?)
    }

    /// As far as state and the claims on the image tell it: a host forgets it when the provider is killed amid an update. A
    /// single claim is this object's, for it has one, unless it was imported from a cloud.
    pub(super) fn recovered(model: &ImageModel, holders: &[Holder]) -> Self {
        let origin = model.origin.known_deref();
        let cloud = model.cloud.known_deref();
        let adopted = origin == Some(Origin::Existing.name());
        let has_claim = !adopted && (origin != Some(Origin::Imported.name()) || cloud == Some(LOCAL));
        let holder = match holders {
            [only] if has_claim => Some(only.to_string()),
            _ => None,
        };
        let made = model.packer_artifacts.known().map(Vec::len).filter(|_| cloud == Some(template::CLOUD));
        Self { holder, adopted, made, sha256: model.sha256.known().cloned(), ..Self::default() }
    }

    /// What an earlier version wrote and we do not understand counts as nothing.
    pub(super) fn read(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_forgot_is_what_state_and_claims_tell() {
        let (one, other) = (Holder::random(), Holder::random());
        let (alone, both) = ([one.clone()], [one.clone(), other]);
        for (origin, cloud, holders, adopted, is_held) in [
            (Origin::Built, "aws", &alone[..], false, true),
            (Origin::Cached, "aws", &both[..], false, false),
            (Origin::Cached, "aws", &[], false, false),
            (Origin::Existing, "aws", &alone[..], true, false),
            (Origin::Imported, "aws", &alone[..], false, false),
            (Origin::Imported, "qemu", &alone[..], false, true),
        ] {
            let model =
                ImageModel { origin: origin.name().into(), cloud: cloud.into(), ..ImageModel::default() };
            let private = Private::recovered(&model, holders);
            let told = (private.adopted, private.holder() == Some(one.clone()));
            assert_eq!(told, (adopted, is_held), "{} {cloud} {}", origin.name(), holders.len());
        }
    }

    #[test]
    fn survives_the_round_trip_and_strange_bytes() {
        let private = Private { sha256: Some("x".into()), ..Private::held_by(&Holder::random()) };
        assert_eq!(Private::read(&private.write()), private);
        for bytes in [&b""[..], b"null", b"{", b"{\"holder\": \"../../x\"}", b"\xff"] {
            assert_eq!(Private::read(bytes).holder(), None);
        }
    }
}
