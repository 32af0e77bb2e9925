//! Launches a machine: key pair, security group, instance. Each step is found again by the launch's tag, and the launch is
//! in the journal until it has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::types::{Image, Instance, InstanceStateName};
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::launch::{Launch, is_early};
use super::status::{LAST_WORDS, until, view, with_volumes};
use super::{
    AwsVmSpec, Files, LAUNCH, SSH_PORT, VmError, change, destroy, lost, surroundings, unfinished, up,
};
use crate::backends::aws::region::{Region, tag_filter};
use crate::backends::aws::waiting::once_known;
use crate::backends::aws::{Aws, AwsError, CLOUD, sweep, tags};
use crate::domain::causes;
use crate::domain::vm_spec::{PowerState, SshAccess, VmSpec, WaitFor};
use crate::domain::{Exists, Vm, VmLogin, VmRequest, with_grace};
use crate::journal;
use crate::ssh;

/// How long a launch that failed may take to remove what it made. What stays is in the journal.
const CLEANING: Duration = Duration::from_secs(5 * 60);

/// One creation.
struct Create<'a> {
    region: &'a Region,
    spec: &'a AwsVmSpec,
    request: &'a VmRequest,
    files: Files,
    launch: String,
    tags: BTreeMap<String, String>,
    /// What was made for the machine.
    made: Vec<String>,
    /// The machine's id, once there is one.
    id: Option<String>,
    /// The machine, once it runs.
    running: Option<Instance>,
}

pub(super) async fn create(
    aws: &Aws,
    region: &Region,
    spec: &AwsVmSpec,
    request: &VmRequest,
    exists: &mut Exists<'_>,
    cancel: &CancellationToken,
) -> Result<Vm, VmError> {
    let launch = Uuid::new_v4();
    let beginning = Box::pin(async {
        let image = image(region, &request.image_id).await?;
        check_login(&request.spec, None)?;
        lost::remove(aws, region, cancel).await;
        Ok((image, entry(aws, region, launch, request).await?))
    });
    let begun = with_grace(Duration::ZERO, beginning, cancel).await;
    let (image, entry) = begun.unwrap_or(Err(VmError::Cancelled))?;
    // On the disk and in state before anything is made.
    let record = aws.launches().begin(entry)?;
    let launch = launch.to_string();
    let id = format!("{LAUNCH}{launch}");
    let (files, tags) = (aws.files(&launch), all_tags(&launch, request));
    let (made, running) = (Vec::new(), None);
    let mut create = Create { region, spec, request, files, launch, tags, made, id: None, running };
    exists(&create.with_login(unfinished(region, &id)));
    // A request that is not answered must not hold up who wants to stop.
    let created = with_grace(LAST_WORDS, Box::pin(create.run(&image, exists, cancel)), cancel).await;
    let created = match created.unwrap_or(Err(VmError::Cancelled)) {
        // Whoever asked may not be there any more to hear of it, and wants nothing to be left.
        Ok(_) if request.stop.is_cancelled() => Err(VmError::Cancelled),
        created => created,
    };
    let never = CancellationToken::new();
    let ending = async {
        match &created {
            Ok(_) => Ok(()),
            // A user who interrupts wants nothing to be left.
            Err(_) if request.stop.is_cancelled() => match create.id.as_deref() {
                Some(instance) => {
                    destroy::end(aws, region, Some(instance), Some(&create.launch), &never).await
                }
                None => destroy::destroy(aws, region, &id, &never).await,
            },
            // One whose time is over wants to see why: what there is stays in state.
            Err(_) => create.take_off_deadline(&never).await,
        }
    };
    let ended = tokio::time::timeout(CLEANING, ending).await.unwrap_or(Err(VmError::Cancelled));
    let has_ended = told(&id, &ended);
    if has_ended {
        record.end()?;
    }
    created
}

/// Whether a launch has ended. One that has not stays in the journal, and what it made goes with the next launch.
fn told(launch: &str, ended: &Result<(), VmError>) -> bool {
    if let Err(error) = ended {
        tracing::warn!(launch, error = causes(error), "a launch that failed is left to the next one");
    }
    ended.is_ok()
}

/// The launch, as somebody else needs to know it to remove what it made.
async fn entry(
    aws: &Aws,
    region: &Region,
    launch: Uuid,
    request: &VmRequest,
) -> Result<journal::Launch, AwsError> {
    Ok(journal::Launch {
        launch,
        cloud: CLOUD.to_owned(),
        region: region.name.clone(),
        name: request.spec.name.clone(),
        access: aws.access().await?,
        started_at: Utc::now(),
        deadline: sweep::over_by(request.deadline),
    })
}

/// A key that we could not log in with is told before there is a machine, or before it is stopped: the one that is given, or
/// the one that was `made` for it, perhaps on another computer.
pub(super) fn check_login(spec: &VmSpec, made: Option<&Files>) -> Result<(), VmError> {
    if spec.wait_for != WaitFor::CloudInit {
        return Ok(());
    }
    let (attribute, path, hint) = match (&spec.ssh.public_key, made) {
        (Some(_), _) => ("ssh.private_key_path", spec.ssh.private_key_path.clone(), ""),
        (None, Some(files)) => {
            let hint = " The key was made where the machine was launched: apply there, or set `wait_for` to \"ssh\".";
            ("wait_for", Some(files.private_key()), hint)
        }
        (None, None) => return Ok(()),
    };
    let Some(Err(error)) = path.map(|path| ssh::load(&path)) else { return Ok(()) };
    let problem = format!("{}. Waiting for cloud-init needs a login.{hint}", causes(&error));
    Err(VmError::Refused { attribute, problem })
}

/// The image to launch from, which tells its volumes.
async fn image(region: &Region, id: &str) -> Result<Image, VmError> {
    let missing = || VmError::Refused { attribute: "image_id", problem: region.no_image(id) };
    // What this process takes for gone may have come up since.
    let found = match region.image(id).await? {
        None => region.fresh_image(id).await?,
        found => found,
    };
    found.ok_or_else(missing)
}

/// The user's tags, the machine's name, the launch's, and when the launch will have ended.
fn all_tags(launch: &str, request: &VmRequest) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::from([(tags::NAME.to_owned(), request.spec.name.clone())]);
    tags.extend(request.spec.tags.clone());
    tags.insert(tags::VM.to_owned(), launch.to_owned());
    let deadline = tags::in_words(sweep::over_by(request.deadline));
    tags.insert(tags::DEADLINE.to_owned(), deadline);
    tags
}

impl Create<'_> {
    async fn run(
        &mut self,
        image: &Image,
        exists: &mut Exists<'_>,
        cancel: &CancellationToken,
    ) -> Result<Vm, VmError> {
        let access = &self.request.spec.ssh;
        let public_key = self.public_key(access)?;
        let key = surroundings::import_key(self.region, &self.launch, &public_key, &self.tags);
        let key = key
            .await
            .map_err(|error| VmError::launching(error, &self.request.image_id, &self.region.name))?;
        let mut groups = self.spec.security_group_ids.clone();
        self.made.push(key);
        if groups.is_empty() {
            let group = self.make_group().await;
            let group = group
                .map_err(|error| VmError::launching(error, &self.request.image_id, &self.region.name))?;
            self.made.push(group.clone());
            let cidrs = self.spec.allowed_cidrs.as_deref().unwrap_or_default();
            surroundings::admit_first(self.region, &group, cidrs, own_port(access), cancel).await?;
            groups.push(group);
        }
        let instance = self.instance(image, &groups, cancel).await?;
        let id = instance.instance_id().unwrap_or_default().to_owned();
        self.id = Some(id.clone());
        exists(&self.with_login(view(self.region, &instance)));
        if let Err(error) = surroundings::belong_to(self.region, self.made.clone(), &id).await {
            // The launch's own tag finds them as long as the instance is known: no reason to give up a machine that runs.
            tracing::warn!(machine = id, %error, "key pair and security group do not say whose they are");
        }
        let running = until(self.region, &id, &InstanceStateName::Running, cancel).await?;
        let vm = self.with_login(view(self.region, &running));
        self.running = Some(running);
        exists(&vm);
        let waited = up::wait(self.region, &vm, &self.request.spec, &self.files, cancel).await;
        if waited.is_err() && self.files.console().exists() {
            exists(&Vm { console_log_path: Some(self.files.console()), ..vm.clone() });
        }
        waited?;
        let vm = if self.request.spec.power_state == PowerState::Running {
            vm
        } else {
            let stopped = change::stop(self.region, &id, cancel).await?;
            self.with_login(view(self.region, &stopped))
        };
        self.take_off_deadline(cancel).await?;
        Ok(vm)
    }

    /// Takes the deadline off all that there is: it is in state now, and nobody else's to remove.
    async fn take_off_deadline(&self, cancel: &CancellationToken) -> Result<(), VmError> {
        let found = match &self.running {
            Some(_) => None,
            None => self.region.launched(&self.launch).await?,
        };
        let instance = self.running.as_ref().or(found.as_ref());
        let mut objects = self.made.clone();
        objects.extend(instance.into_iter().flat_map(with_volumes));
        if objects.is_empty() {
            return Ok(());
        }
        // A place that has not heard of one of them is no reason to give up a machine that runs.
        Ok(once_known(cancel, AwsError::is_gone, || self.region.untag(&objects, [tags::DEADLINE])).await?)
    }

    async fn make_group(&self) -> Result<String, AwsError> {
        let vpc = match &self.spec.subnet_id {
            Some(subnet) => surroundings::vpc_of(self.region, subnet).await?,
            None => None,
        };
        surroundings::make_group(self.region, &self.launch, vpc, &self.tags).await
    }

    async fn instance(
        &self,
        image: &Image,
        groups: &[String],
        cancel: &CancellationToken,
    ) -> Result<Instance, VmError> {
        let launch = Launch {
            spec: self.spec,
            image,
            token: &self.launch,
            key_name: &surroundings::name(&self.launch),
            groups,
            user_data: self.request.spec.user_data.as_ref(),
            tags: &self.tags,
        };
        let own_group = self.spec.security_group_ids.is_empty();
        let by = tag_filter(tags::VM, [&self.launch]);
        launch.run(self.region, by, |error| is_early(error, own_group), cancel).await
    }

    fn public_key(&self, access: &SshAccess) -> Result<String, VmError> {
        self.files.make()?;
        match &access.public_key {
            Some(key) => Ok(key.clone()),
            None => {
                Ok(ssh::generate(&self.files.private_key(), &format!("sindri {}", self.request.spec.name))?)
            }
        }
    }

    /// The machine with how one logs in, which the state keeps from here on.
    fn with_login(&self, vm: Vm) -> Vm {
        let access = &self.request.spec.ssh;
        let own_key = || Some(self.files.private_key());
        let login = VmLogin {
            port: port(access),
            username: access.username.clone(),
            private_key_path: match &access.public_key {
                Some(_) => access.private_key_path.clone(),
                None => own_key(),
            },
            known_hosts_path: Some(self.files.known_hosts()),
        };
        Vm { login: Some(login), ..vm }
    }
}

/// Where SSH listens on the machine itself: the port of a forward is not the machine's.
pub(super) fn own_port(access: &SshAccess) -> u16 {
    if access.host.is_some() { SSH_PORT } else { port(access) }
}

/// Where SSH is reached.
pub(super) fn port(access: &SshAccess) -> u16 {
    access.port.unwrap_or(SSH_PORT)
}
