//! Packer's amazon-ebs builder: the steps in a builder on EC2, and an AMI of that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use aws_sdk_ec2::types::Image as Ami;
use chrono::{DateTime, Utc};

use super::access::{self, Access};
use super::template::{self, PLUGIN, Values};
use super::{Build, BuildError, artifact};
use crate::backends::aws::image::AwsImageSpec;
use crate::backends::aws::sweep;
use crate::domain::{Environment, ImageSpec, OnError};
use crate::journal::Record;
use crate::packer::{Folder, Job, Packer, PackerError, Recipe};
use crate::process::{HandOver, Limits, TRUSTED, private};
use crate::provision::parts::{self, Draft, Drafts, Site};

/// How long a builder may take to its login, and to come back from a restart.
pub(super) const BOOT: Duration = Duration::from_secs(15 * 60);
/// How long cloud-init, one check, and cleaning may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// What Packer has to terminate the builder when it is cancelled.
const GRACE: Duration = Duration::from_secs(5 * 60);
/// The folder of what Packer is given, and of the parts' files, in the build's folder.
const FOLDER: &str = "packer";
const PARTS: &str = "parts";

/// A builder's first boot is awaited as a whole: its package sources are set up by it.
pub(super) const AWAIT: &str = concat!(
    "command -v cloud-init >/dev/null || exit 0\n[ ! -e /run/cloud-init/disabled ] || exit 0\n",
    include_str!("../../../../../../templates/scripts/await-first-boot.sh"),
    "code=$?\n[ \"$code\" -ne 2 ] || code=0\nexit \"$code\"\n"
);

/// Removes the way in and our own folders.
const LEAVE: &str = include_str!("../../../../../../templates/scripts/leave-builder.sh");

/// The user's Packer.
pub(super) async fn find(build: &Build<'_>) -> Result<Packer, BuildError> {
    let limits = Limits::cancelled_by(&build.request.cancel);
    let found = build.tools.packer.locate(&build.tools.runner, &limits).await;
    let packer = found.map_err(|error| BuildError::from(PackerError::from(error)))?;
    if packer.version < template::NEEDED {
        let problem = format!(
            "images on AWS need Packer {} or later, and {} is Packer {}: install a newer one, or say where it is (`packer` in the provider's configuration, or PACKER_BIN)",
            template::NEEDED,
            packer.program.display(),
            packer.version
        );
        return Err(BuildError::refused("aws", problem));
    }
    Ok(packer)
}

/// Builds. Returns the AMI's id.
pub(super) async fn run(
    build: &Build<'_>,
    record: &Record,
    packer: &Packer,
    base: &Ami,
    access: &Access,
) -> Result<String, BuildError> {
    build.log.step(&format!("Handing over to Packer {}", packer.version));
    let mut packer = packer.clone();
    packer.env.extend(environment(build).await);
    let folder = build.dir.join(PARTS);
    private::create_dir(&folder).map_err(BuildError::io("create", &folder))?;
    let built = hand_over(build, record, &packer, base, access).await;
    // Steps have secrets in them.
    fs::remove_dir_all(&folder).map_err(BuildError::io("remove", &folder))?;
    built
}

async fn hand_over(
    build: &Build<'_>,
    record: &Record,
    packer: &Packer,
    base: &Ami,
    access: &Access,
) -> Result<String, BuildError> {
    let Build { spec, tools, request, log, dir, .. } = build;
    let drafts = drafts(&request.spec, build.spec, access.public_key.as_deref())?;
    let site = Site { cwd: dir, runner: &tools.runner, log, cancel: &request.cancel };
    let parts = parts::write(&site, drafts).await?;
    // What Packer is given is written: later edits are none of the image's.
    request.check_unchanged(Some(request.key_inputs.target.clone()))?;
    let tags = build.tags();
    let endpoint = build.aws.endpoint(&spec.region).await;
    let values = Values {
        spec,
        name: &build.name,
        base,
        tags: &tags,
        groups: &access.groups,
        key_name: &access.key_name,
        key_file: access.key_file.to_str().ok_or_else(|| not_text(build))?,
        endpoint: endpoint.as_deref(),
        boot: BOOT,
    };
    let variables = template::variables(&values, &parts);
    let folder = Folder::create(&dir.join(FOLDER))?;
    let keep = request.spec.on_error == OnError::Keep;
    let (runner, cancel) = (&tools.runner, &request.cancel);
    let env = sweep::environment();
    let then = HandOver { file: record.path(), lock: record.lock_fd(), env: &env };
    let job = Job {
        folder: &folder,
        cwd: dir,
        runner,
        log,
        cancel,
        grace: GRACE,
        keep,
        keep_output: false,
        then: Some(then),
    };
    let own_plugins = tools.packer.own_plugins();
    let others = template::others(spec, base).len();
    let forms = template::forms(packer.version, own_plugins, spec.builder.spot, others, &parts)?;
    let (required, lock_dir) = (required(), &tools.cache_dir);
    let recipe = Recipe { forms: &forms, variables: &variables, required: &required, lock_dir };
    let (taken, report) = parts::run(packer, &job, &recipe, &parts).await?;
    if spec.imdsv2_required && !template::asks_for_tokens(&forms[taken]) {
        log.line(&format!(
            "Packer {} cannot have the builder give metadata to session tokens only: it did so where the source image says so. The finished image says so in any case",
            packer.version
        ));
    }
    artifact::id(&report, &build.region.name)
}

fn not_text(build: &Build<'_>) -> BuildError {
    let not_utf8 = std::io::Error::from(std::io::ErrorKind::InvalidInput);
    BuildError::io("give Packer the name of a file in", &build.dir)(not_utf8)
}

/// The plugin and its version, where one is required.
pub(super) fn required() -> String {
    format!("amazon {PLUGIN}")
}

/// All that is done in the builder, in order; `key` is the public one by which we got in, if that is not to stay.
pub(super) fn drafts(
    spec: &ImageSpec,
    aws: &AwsImageSpec,
    key: Option<&str>,
) -> Result<Vec<Draft>, BuildError> {
    let mut drafts = Drafts::begin(PARTS, BOOT);
    drafts.script("wait for cloud-init", AWAIT, Some(PATIENCE));
    drafts.steps(spec)?;
    // With `verify_boot` they run in a machine from the finished image.
    for check in spec.checks.iter().filter(|_| !aws.verify_boot) {
        drafts.check(check, PATIENCE)?;
    }
    drafts.cleanup(spec.security, PATIENCE)?;
    let leave = parts::shell_line("leave the builder", LEAVE, &leave_environment(key))?;
    drafts.script("leave the builder", &leave, Some(PATIENCE));
    Ok(drafts.finish())
}

/// What the last script is told: the key.
fn leave_environment(key: Option<&str>) -> Environment {
    let key = key.and_then(|key| key.split(' ').nth(1)).unwrap_or_default();
    let mut environment = Environment::default();
    environment.plain.insert("SINDRI_KEY".to_owned(), key.to_owned());
    environment
}

/// How Packer comes to AWS: as we do, by the same credentials, whatever profile or role they come from, and by none
/// of its own. In its environment, where only its own user can read them.
///
/// Those of a role or of SSO end some time, and Packer cannot renew these: a build that takes longer (an hour, where a
/// role is taken on in a chain) fails when Packer next asks for something. What is left of it is removed with fresh ones.
async fn environment(build: &Build<'_>) -> BTreeMap<OsString, OsString> {
    let credentials = build.credentials;
    if let Some(end) = credentials.expiry().map(DateTime::<Utc>::from)
        && end < build.request.deadline
    {
        let end = end.format("%H:%M UTC");
        build.log.step(&format!(
            "The credentials end at {end}, before the build's time is over: Packer cannot renew them. `aws.assume_role.duration` makes a role's last longer"
        ));
    }
    let mut all = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key().to_owned()),
        ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]);
    if let Some(token) = credentials.session_token() {
        all.insert("AWS_SESSION_TOKEN", token.to_owned());
    }
    if let Some(url) = build.aws.endpoint(&build.spec.region).await {
        // The plugin of today makes itself clients that pass over `custom_endpoint_ec2`.
        all.insert("AWS_ENDPOINT_URL_EC2", url);
    }
    let mut all: BTreeMap<OsString, OsString> =
        all.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    if let Some(agent) = access::agent().filter(|_| build.spec.builder.login.bastion.is_some()) {
        all.insert("SSH_AUTH_SOCK".into(), agent);
    }
    for name in TRUSTED.into_iter().chain(["AWS_CA_BUNDLE"]) {
        all.extend(std::env::var_os(name).map(|trusted| (name.into(), trusted)));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn our_own_parts_are_shell() {
        for text in [AWAIT, LEAVE] {
            let status = Command::new("sh").args(["-n", "-c", text]).status().unwrap();
            assert!(status.success(), "{text}");
        }
    }
}
