//! A look at an image that is there already, before everybody may have it: in a machine from it, as `verify_boot` has one
//! while an image is built.
//!
//! It is in the journal, as a build whose image is complete: who finds the entry abandoned removes all but the image.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::Image as Ami;
use chrono::Utc;
use tokio::time::Instant;
use uuid::Uuid;

use super::access::{self, Access};
use super::{AwsBuilder, BuildError, RECOVERING, Work, guard, tell_all, verify, work};
use crate::backends::aws::image::{not_found, read};
use crate::backends::aws::sweep::How;
use crate::backends::aws::{Aws, AwsError, CLOUD, sweep, tags};
use crate::domain::{BackendError, LookRequest, Security, unless_cancelled};
use crate::journal::{Entry, Phase, Record};
use crate::process::{BuildLog, Redactor, private};
use crate::provision;

/// A look under way.
struct Look<'a> {
    aws: &'a Aws,
    request: &'a LookRequest,
    ami: &'a Ami,
    work: Work<'a>,
}

impl AwsBuilder {
    /// Looks through an image, unless that was done before.
    pub(super) async fn look(&self, request: &LookRequest) -> Result<(), BackendError> {
        if !self.spec.verify_boot {
            // Who wrote `security` out answers for it.
            return Ok(());
        }
        // An earlier look among them, whose machine costs money, whether the image has to be looked through again or not.
        let until = How::Until(Instant::now() + RECOVERING);
        let doing = format!("looking through image {}", request.id);
        let begun = async {
            tell_all(self.aws.recover(Some(&self.spec.region), until, &request.cancel).await);
            let region = self.aws.region_for(Some(&self.spec.region), &doing).await?;
            let found = region.fresh_image(&request.id).await;
            let found = found.map_err(|error| error.into_backend(doing.as_str()))?.filter(read::is_there);
            Ok((region, found.ok_or_else(|| not_found(&request.id))?))
        };
        let (region, ami) = unless_cancelled(&doing, begun, &request.cancel).await?;
        if was_looked_through(&ami, request.security) {
            return Ok(());
        }
        let (id, logs) = (Uuid::new_v4(), self.aws.data_dir.join("logs"));
        let log = BuildLog::create(&logs, &request.name_prefix, &id.to_string(), Redactor::default())
            .map_err(|error| BackendError::failed("writing the log of a look", error))?;
        let spec = access::on_this_computer(&self.spec).map_err(|error| error.into_backend(&log))?;
        let deadline = tags::in_words(sweep::over_by(request.deadline));
        let name = ami.name().unwrap_or_default();
        let work = Work {
            region: &region,
            spec: &spec,
            runner: &self.tools.runner,
            id,
            dir: &self.aws.build_dir(id),
            log: &log,
            tags: work::tags_of(name, &request.tags, &id.to_string(), &deadline),
            cancel: &request.cancel,
        };
        let look = Look { aws: &self.aws, request, ami: &ami, work };
        look.run().await.map_err(|error| error.into_backend(&log))
    }
}

impl Look<'_> {
    async fn run(&self) -> Result<(), BuildError> {
        self.work.log.step(&format!("Looking through image {}, which everybody is to have", self.request.id));
        let networks = access::networks(&self.work.spec.builder, self.work.cancel).await?;
        let entry = self.work.cancel.run_until_cancelled(self.entry()).await;
        let mut record = self.aws.journal().begin(entry.ok_or(BuildError::Cancelled)??)?;
        let looked = self.look(&mut record, &networks).await;
        self.work.remove_dir();
        match looked {
            Ok(true) => Ok(record.end()?),
            // A machine that does not end, or the way into it, is the next one's to remove.
            Ok(false) => Ok(()),
            Err(error) => {
                work::settle(self.aws, record, self.work.log).await;
                Err(error)
            }
        }
    }

    /// Whether nothing of it is left.
    async fn look(&self, record: &mut Record, networks: &[String]) -> Result<bool, BuildError> {
        let Self { work, request, .. } = self;
        private::create_dir(work.dir).map_err(BuildError::io("create", work.dir))?;
        let access = Access::make(work, networks, request.security.clean_sensitive_data).await?;
        let checks: Vec<_> =
            provision::look(request.security, Some(&access.own_key()?)).into_iter().collect();
        let machine =
            guard::guarded(work, record, Box::pin(verify::verify(work, &access, self.ami, &checks))).await?;
        let words = provision::looked_for(request.security, true).join(" ");
        work.region.tag([&request.id], [(tags::LOOKED.to_owned(), words)]).await?;
        let is_ended = guard::guarded(work, record, machine.end()).await;
        if work.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        // The way in is in use as long as the machine is there.
        Ok(is_ended && access.remove(work.region).await)
    }

    async fn entry(&self) -> Result<Entry, AwsError> {
        let request = self.request;
        Ok(Entry {
            build: self.work.id,
            cloud: CLOUD.to_owned(),
            region: self.work.region.name.clone(),
            name: self.ami.name().unwrap_or_default().to_owned(),
            key: request.key.clone(),
            share: true,
            holder: request.holder.clone(),
            tags: BTreeMap::new(),
            access: self.aws.access().await?,
            started_at: Utc::now(),
            deadline: sweep::over_by(request.deadline),
            phase: Phase::Complete { image_id: request.id.clone() },
        })
    }
}

/// Whether an image says that it was looked through for all of this.
fn was_looked_through(ami: &Ami, security: Security) -> bool {
    let said = tags::map(ami.tags()).remove(tags::LOOKED).unwrap_or_default();
    let said: BTreeSet<&str> = said.split(' ').collect();
    provision::looked_for(security, true).iter().all(|word| said.contains(word))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::Tag;

    use super::*;

    #[test]
    fn an_image_is_looked_through_once_for_all_that_matters() {
        let all = Security { clean_sensitive_data: true, remove_ssh_host_keys: true };
        let logins = Security { clean_sensitive_data: false, remove_ssh_host_keys: false };
        for (said, security, is_enough) in [
            (Some("data keys logins secrets"), all, true),
            (Some("data keys logins"), all, false),
            (Some("data keys logins secrets and more"), all, true),
            (Some("data keys"), all, false),
            (Some("logins secrets"), all, false),
            (Some("logins secrets"), logins, true),
            (Some(""), all, false),
            (None, all, false),
            (None, logins, false),
        ] {
            let tag = said.map(|words| vec![Tag::builder().key(tags::LOOKED).value(words).build()]);
            let ami = Ami::builder().set_tags(tag).build();
            assert_eq!(was_looked_through(&ami, security), is_enough, "{said:?} {security:?}");
        }
    }
}
