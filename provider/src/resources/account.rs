//! Which account of a cloud an object is in, kept beside its state. With credentials of another account nothing of it is
//! found: that does not mean that it is gone.

use tfplugin::{Diagnostic, Diagnostics};

use super::deadline::Time;
use crate::backends::Backends;
use crate::diagnose;

/// What is going on meanwhile.
const ASKING: &str = "asking for the account";

/// The account in use, to be kept with an object that was made or seen with it. None where a cloud has no accounts, and
/// where it does not tell: whoever may do all else need not be kept from it.
pub async fn current(backends: &Backends, cloud: &str, time: &Time) -> Option<String> {
    // Boxed: the futures of AWS's SDK are deep.
    match time.look(ASKING, Box::pin(backends.account(cloud))).await {
        Ok(account) => account,
        Err(failure) => {
            tracing::warn!(cloud, error = diagnose::chain(&failure.error), "the account is not known");
            None
        }
    }
}

/// Refuses to take an object for gone, or to work on it, with credentials of another account than that which is kept with
/// it. One of which no account is kept, as of an earlier version, passes without a request. `what` names the object.
///
/// # Errors
/// When the accounts differ, or the cloud does not tell whose the credentials are.
pub async fn check(
    backends: &Backends,
    cloud: &str,
    what: &str,
    kept: Option<&str>,
    time: &Time,
) -> Result<(), Diagnostics> {
    let Some(kept) = kept else { return Ok(()) };
    let here = time.look(ASKING, Box::pin(backends.account(cloud))).await;
    let here = here.map_err(|failure| failure.diagnostic("Account not known", time.timeout))?;
    compare(what, kept, here.as_deref()).map_err(Into::into)
}

fn compare(what: &str, kept: &str, here: Option<&str>) -> Result<(), Diagnostic> {
    match here {
        Some(here) if here != kept => {
            let text = format!(
                "The {what} is in account {kept}, and the credentials here are of account {here}: it cannot be seen with them.\nUse credentials of {kept}. If it is gone for good, or is to be forgotten, remove it from the state (`state rm`)."
            );
            Err(Diagnostic::error("Another account", text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_account_is_refused_and_both_are_named() {
        for (here, expected) in [(None, true), (Some("111111111111"), true), (Some("222222222222"), false)] {
            let told = compare("machine i-1", "111111111111", here);
            assert_eq!(told.is_ok(), expected, "{here:?}");
            if let Err(told) = told {
                assert!(told.detail.contains("111111111111") && told.detail.contains("222222222222"));
            }
        }
    }
}
