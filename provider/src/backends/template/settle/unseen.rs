//! Things that are not seen: they may be in another account, unless something proves that they were in ours.

use std::path::Path;

use super::Told;
use crate::backends::template::{Templates, told};
use crate::domain::{BackendError, Made, Seen};

impl Templates {
    /// Things that we do not see and never saw in the account that we look in, each with that account: they may be in
    /// another one. Those that we see, and those that certainly were here and are gone, are noted.
    pub(in crate::backends::template) async fn unseen(
        &self,
        told: &mut Told,
        there: &[(Made, Seen)],
        log: &Path,
    ) -> Result<Vec<(Made, String)>, BackendError> {
        let mut unseen = Vec::new();
        for one in told.made.iter().filter(|one| one.managed) {
            let Some(keeper) = self.keeper(one) else { continue };
            let Some(account) = keeper.account().await? else { continue };
            if there.iter().any(|(other, _)| other == one) {
                told.seen.insert(one.id.clone(), account);
            } else if told.seen.get(&one.id) != Some(&account) {
                // Somebody deleted it before we ever saw it.
                if keeper.was_here(one).await? || self.worked_here(keeper, one, log).await? {
                    told.seen.insert(one.id.clone(), account);
                } else {
                    unseen.push((one.clone(), account));
                }
            }
        }
        Ok(unseen)
    }
}

/// What a person does about things that are not seen; `entry` is the file of the build's entry in the journal.
pub(in crate::backends::template) fn in_words(unseen: &[(Made, String)], entry: &Path) -> Vec<String> {
    let one = |(made, account): &(Made, String)| {
        format!(
            "{} is not seen from account {account}: look for it in the account of the template. `terraform-provider-sindri sweep` with credentials of that account ends this; when it is gone already, remove {}",
            told(made),
            entry.display()
        )
    };
    unseen.iter().map(one).collect()
}
