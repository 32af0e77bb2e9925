//! What builders said that they make, and that no artifact tells of: Packer leaves an AMI that it was still waiting for when it
//! is interrupted, or gives up. A line of a log proves nothing, so that only what a [`Keeper`] finds counts.
//!
//! [`Keeper`]: crate::domain::Keeper

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Templates;
use super::settle::Told;
use crate::domain::{BackendError, Heard, Keeper, Made};

/// The most of a log that is looked through.
const LONGEST_LOG: u64 = 64 << 20;
/// After so long without a word nothing of a killed build is under way.
const QUIET: Duration = Duration::from_secs(10 * 60);
/// What follows this in a log names artifacts.
const ARTIFACTS: &str = "==> Builds finished. The artifacts of successful builds are:";

/// Something that a builder said that it makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Doubtful {
    /// In its words.
    words: String,
    /// Whether it said, too, that it removes it.
    removed: bool,
}

/// What became of a search.
#[derive(Debug)]
pub(super) struct Traced {
    /// What is not found, each thing with the account that was looked in.
    pub(super) lost: Vec<(Made, String)>,
    /// Whether all could be looked for.
    pub(super) outcome: Result<(), BackendError>,
}

impl Traced {
    /// Nothing was to be looked for.
    pub(super) fn nothing() -> Self {
        Self { lost: Vec::new(), outcome: Ok(()) }
    }
}

impl Templates {
    /// Looks for what builders said in the log that they make. What is found is taken for made. What is not may be in another
    /// account, unless its builder has removed it.
    pub(super) async fn trace(&self, told: &mut Told, log: &Path, since: DateTime<Utc>) -> Traced {
        let doubtful = told.doubtful.take().unwrap_or_else(|| self.heard(log, &told.made));
        let (mut traced, mut left) = (Traced::nothing(), Vec::new());
        for one in doubtful {
            let Some((keeper, heard)) = self.begun(&one.words) else { continue };
            match search(keeper, &heard, since).await {
                Ok(Ok(found)) => told.made.extend(Some(found).filter(|found| !told.made.contains(found))),
                Ok(Err(_)) if one.removed => {}
                Ok(Err(_)) if self.worked_here(keeper, &heard, log).await.unwrap_or_default() => {}
                Ok(Err(account)) => {
                    traced.lost.push((heard, account));
                    left.push(one);
                }
                Err(error) => {
                    traced.outcome = Err(error);
                    left.push(one);
                }
            }
        }
        told.doubtful = Some(left);
        traced
    }

    /// What builders said in the log that they make, but for those whose artifacts Packer told.
    fn heard(&self, log: &Path, made: &[Made]) -> Vec<Doubtful> {
        let (mut all, mut ended) = (BTreeMap::<String, Vec<Doubtful>>::new(), false);
        for line in lines(log) {
            ended |= line.trim_end() == ARTIFACTS;
            let Some((lead, target, text)) = spoken(line.trim_end()) else { continue };
            let of_target = all.entry(target.to_owned()).or_default();
            match self.keepers.iter().find_map(|keeper| keeper.hear(text)) {
                _ if ended && lead == Lead::Result => of_target.clear(),
                Some(Heard::Begins(one)) if !made.iter().any(|other| other.id.contains(&one.id)) => {
                    of_target.push(Doubtful { words: text.to_owned(), removed: false });
                }
                Some(Heard::Removes) => of_target.iter_mut().for_each(|one| one.removed = true),
                _ => {}
            }
        }
        all.into_values().flatten().collect()
    }

    /// Whether what is not seen was certainly made in our account, and is gone: all machines are seen in which builders said that
    /// they work. Not as long as their cloud may not know everywhere what was made.
    pub(super) async fn worked_here(
        &self,
        keeper: &dyn Keeper,
        made: &Made,
        log: &Path,
    ) -> Result<bool, BackendError> {
        let written = fs::metadata(log).and_then(|it| it.modified());
        if !written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > QUIET)) {
            return Ok(false);
        }
        let works = |line: String| match keeper.hear(spoken(line.trim_end())?.2) {
            Some(Heard::Works(machine)) => Some(machine),
            _ => None,
        };
        let machines: BTreeSet<String> = lines(log).filter_map(works).collect();
        if machines.is_empty() {
            return Ok(false);
        }
        keeper.worked_here(made, &machines).await
    }

    fn begun(&self, words: &str) -> Option<(&dyn Keeper, Made)> {
        self.keepers.iter().find_map(|keeper| match keeper.hear(words) {
            Some(Heard::Begins(made)) => Some((keeper.as_ref(), made)),
            _ => None,
        })
    }
}

/// A log's lines, as far as it is looked through.
fn lines(log: &Path) -> impl Iterator<Item = String> {
    let file = fs::File::open(log).into_iter();
    let lines = file.flat_map(|file| io::BufReader::new(io::Read::take(file, LONGEST_LOG)).split(b'\n'));
    lines.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned())
}

/// The thing, or the account that has no such thing.
async fn search(
    keeper: &dyn Keeper,
    heard: &Made,
    since: DateTime<Utc>,
) -> Result<Result<Made, String>, BackendError> {
    match keeper.trace(heard, since).await? {
        Some(found) => Ok(Ok(found)),
        None => Ok(Err(keeper.account().await?.unwrap_or_default())),
    }
}

/// How a line begins that is about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Something happens.
    Step,
    /// It is at its end.
    Result,
}

/// Of a line that a target's builder prints: how it begins, the target, the rest.
fn spoken(line: &str) -> Option<(Lead, &str, &str)> {
    let leads = [("==> ", Lead::Step), ("    ", Lead::Step), ("--> ", Lead::Result)];
    let (rest, lead) = leads.iter().find_map(|(words, lead)| Some((line.strip_prefix(words)?, *lead)))?;
    let (target, text) = rest.split_once(": ")?;
    (!target.is_empty() && !target.contains(' ')).then_some((lead, target, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builders_speak_after_their_names() {
        for (line, expected) in [
            ("    amazon-ebs.it: AMI: ami-1", Some((Lead::Step, "amazon-ebs.it", "AMI: ami-1"))),
            ("==> it: AMI: ami-1", Some((Lead::Step, "it", "AMI: ami-1"))),
            ("--> it: AMIs were created:", Some((Lead::Result, "it", "AMIs were created:"))),
            // Another Packer's words, in the output of a script.
            ("    null.it:     inner: AMI: ami-1", Some((Lead::Step, "null.it", "    inner: AMI: ami-1"))),
            ("it: AMI: ami-1", None),
            ("    two words: AMI: ami-1", None),
        ] {
            assert_eq!(spoken(line), expected, "{line}");
        }
    }
}
