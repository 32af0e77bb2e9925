//! The way to the builder: who may reach it, and the key that it lets in. Both are made here and not by Packer, whose
//! oldest ones put no tag on what they make: a build that is killed leaves nothing that is not found.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{BuildError, Work};
use crate::backends::aws::AwsError;
use crate::backends::aws::image::problems::{no_session_manager, unverifiable};
use crate::backends::aws::image::{AwsImageSpec, Builder, Interface};
use crate::backends::aws::region::Region;
use crate::backends::aws::vm::{VmError, surroundings};
use crate::process::search_path;
use crate::ssh;

/// Tells by which address we come (<https://checkip.amazonaws.com>).
const CHECKIP: &str = "https://checkip.amazonaws.com";
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Networks that the group of the build lets in; none when it needs no group, or no way in.
pub(super) async fn networks(
    builder: &Builder,
    cancel: &CancellationToken,
) -> Result<Vec<String>, BuildError> {
    if !builder.security_group_ids.is_empty() || builder.login.interface == Interface::SessionManager {
        return Ok(Vec::new());
    }
    if !builder.allowed_cidrs.is_empty() {
        return Ok(builder.allowed_cidrs.clone());
    }
    tokio::select! {
        asked = ask(CHECKIP) => asked.map(|network| vec![network]).map_err(|reason| unknown(&reason)),
        () = cancel.cancelled() => Err(BuildError::Cancelled),
    }
}

/// What of the way to the builder is on this computer: files by their whole paths, since Packer runs elsewhere.
///
/// # Errors
/// When one is not there, or of no use.
pub(super) fn on_this_computer(spec: &AwsImageSpec) -> Result<AwsImageSpec, BuildError> {
    let file = |path: &Option<PathBuf>, attribute| match path {
        Some(path) => found(path, attribute).map(Some),
        None => Ok(None),
    };
    let mut spec = spec.clone();
    let login = &mut spec.builder.login;
    login.private_key_path = file(&login.private_key_path, "aws.ssh_private_key_path")?;
    if let Some(bastion) = &mut login.bastion {
        bastion.private_key_path = file(&bastion.private_key_path, "aws.ssh_bastion_private_key_path")?;
        if bastion.private_key_path.is_none() && agent().is_none() {
            let problem = "no SSH agent is running here (SSH_AUTH_SOCK is not set): set the path of a key for the bastion, or start an agent";
            return Err(BuildError::refused("aws.ssh_bastion_private_key_path", problem));
        }
    }
    match unverifiable(&spec).or_else(|| no_session_manager(spec.builder.login.interface, &search_path())) {
        Some((attribute, problem)) => Err(BuildError::refused(attribute, problem)),
        None => Ok(spec),
    }
}

/// Where the SSH agent listens.
pub(super) fn agent() -> Option<OsString> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty())
}

fn found(path: &Path, attribute: &'static str) -> Result<PathBuf, BuildError> {
    let path = std::path::absolute(path).map_err(BuildError::io("find", path))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(BuildError::refused(attribute, format!("there is no file {}", path.display())))
}

/// The public half of a key pair of the account's.
async fn public_half(region: &Region, name: &str) -> Result<String, BuildError> {
    let asked = region.ec2.describe_key_pairs().key_names(name).include_public_key(true).send().await;
    let found = match asked.map_err(|error| AwsError::of("DescribeKeyPairs", error)) {
        Err(error) if error.is_gone() => {
            let problem = format!("there is no key pair {name:?} in {}", region.name);
            return Err(BuildError::refused("aws.ssh_keypair_name", problem));
        }
        other => other?,
    };
    let key = found.key_pairs().first().and_then(|pair| pair.public_key()).map(str::to_owned);
    Ok(key.ok_or(AwsError::Incomplete { operation: "DescribeKeyPairs", what: "public key" })?)
}

async fn ask(url: &str) -> Result<String, String> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build();
    let asked = async { client?.get(url).send().await?.error_for_status()?.text().await };
    let text = asked.await.map_err(|error| crate::domain::causes(&error))?;
    network(&text).ok_or_else(|| format!("it answers with {:?}", text.chars().take(80).collect::<String>()))
}

/// The network of one address.
fn network(text: &str) -> Option<String> {
    let address: IpAddr = text.trim().parse().ok()?;
    Some(format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }))
}

fn unknown(reason: &str) -> BuildError {
    let problem = format!(
        "{CHECKIP} does not tell this computer's public address ({reason}): set `allowed_cidrs` to the networks that may reach the builder's SSH, such as [\"203.0.113.7/32\"], or `security_group_ids`"
    );
    BuildError::refused("aws.allowed_cidrs", problem)
}

/// The way to the builder. A key of Packer's oldest ones would be of a kind that today's servers refuse (RSA with SHA-1).
pub(super) struct Access {
    /// The pair's name in EC2.
    pub(super) key_name: String,
    /// The private key.
    pub(super) key_file: PathBuf,
    /// The public one, when it does not belong into the image.
    pub(super) public_key: Option<String>,
    /// Whether the pair was made for the build.
    own_pair: bool,
    /// The builder's security groups.
    pub(super) groups: Vec<String>,
    /// The one of them that is ours.
    own_group: Option<String>,
}

impl Access {
    /// Takes the user's key pair and groups, or makes them; ours lets `networks` in. `clean` tells that nobody's key stays in the
    /// image.
    pub(super) async fn make(work: &Work<'_>, networks: &[String], clean: bool) -> Result<Self, BuildError> {
        // What is asked for when somebody stops has the build's tag and name, and is found by them.
        let made = work.cancel.run_until_cancelled(Self::with_groups(work, networks, clean)).await;
        made.unwrap_or(Err(BuildError::Cancelled))
    }

    async fn with_groups(work: &Work<'_>, networks: &[String], clean: bool) -> Result<Self, BuildError> {
        let theirs = &work.spec.builder.security_group_ids;
        let grouped =
            async { if theirs.is_empty() { own_group(work, networks).await.map(Some) } else { Ok(None) } };
        // Each to its end, also when the other fails: what is asked for is then there when it is looked for.
        let (access, own_group) = tokio::join!(Self::with_key(work, clean), grouped);
        let (access, own_group) = (access?, own_group?);
        let groups = own_group.as_ref().map_or_else(|| theirs.clone(), |group| vec![group.clone()]);
        Ok(Self { groups, own_group, ..access })
    }

    async fn with_key(work: &Work<'_>, clean: bool) -> Result<Self, BuildError> {
        let (groups, own_group) = (Vec::new(), None);
        let login = &work.spec.builder.login;
        if let (Some(name), Some(path)) = (&login.keypair_name, &login.private_key_path) {
            // EC2 has put the user's key into the builder: in an image that is cleaned nobody's key stays.
            let public_key = if clean { Some(public_half(work.region, name).await?) } else { None };
            let key_file = path.clone();
            return Ok(Self {
                key_name: name.clone(),
                key_file,
                public_key,
                own_pair: false,
                groups,
                own_group,
            });
        }
        let key_file = work.dir.join("ssh_key");
        let public_key = ssh::generate(&key_file, &format!("sindri-{}", work.id))?;
        surroundings::import_key(work.region, &work.id.to_string(), &public_key, &work.tags).await?;
        let key_name = surroundings::name(&work.id.to_string());
        Ok(Self { key_name, key_file, public_key: Some(public_key), own_pair: true, groups, own_group })
    }

    /// The public key that lets us in, as `authorized_keys` has it: its kind and comment are apart.
    pub(super) fn own_key(&self) -> Result<String, BuildError> {
        let key = ssh::public_key(&self.key_file)?;
        Ok(key.split(' ').nth(1).unwrap_or_default().to_owned())
    }

    /// Removes what was made. Whether nothing of it stays: what does has the build's tag, and the journal must still have it.
    pub(super) async fn remove(&self, region: &Region) -> bool {
        let (group, pair) = tokio::join!(self.remove_group(region), self.remove_pair(region));
        let group = group.inspect_err(|error| {
            tracing::warn!(group = self.own_group, %error, "a build's security group is not removed");
        });
        let pair = pair.inspect_err(|error| {
            tracing::warn!(key = self.key_name, %error, "a build's key pair is not removed");
        });
        group.is_ok() && pair.is_ok()
    }

    async fn remove_group(&self, region: &Region) -> Result<(), VmError> {
        let Some(group) = &self.own_group else { return Ok(()) };
        surroundings::remove_group(region, group, &CancellationToken::new()).await
    }

    async fn remove_pair(&self, region: &Region) -> Result<(), AwsError> {
        if !self.own_pair {
            return Ok(());
        }
        let deleted = region.ec2.delete_key_pair().key_name(&self.key_name).send().await;
        deleted.map(drop).map_err(|error| AwsError::of("DeleteKeyPair", error))
    }
}

/// A group that lets these networks in.
async fn own_group(work: &Work<'_>, networks: &[String]) -> Result<String, BuildError> {
    let Builder { vpc_id, subnet_id, login, .. } = &work.spec.builder;
    let vpc = match (vpc_id, subnet_id) {
        (Some(vpc), _) => Some(vpc.clone()),
        (None, Some(subnet)) => surroundings::vpc_of(work.region, subnet).await.map_err(misplaced)?,
        (None, None) => None,
    };
    let made = surroundings::make_group(work.region, &work.id.to_string(), vpc, &work.tags).await;
    let group = made.map_err(misplaced)?;
    // Behind a forward, the builder's own port is the usual one.
    let port = login.port.filter(|_| login.host.is_none()).unwrap_or(22);
    surroundings::admit_first(work.region, &group, networks, port, work.cancel).await?;
    Ok(group)
}

/// What AWS says of the place of the builder, on the attribute that names it.
fn misplaced(error: AwsError) -> BuildError {
    let attribute = match error.code().unwrap_or_default() {
        code if code.starts_with("InvalidVpc") => "aws.vpc_id",
        code if code.starts_with("InvalidSubnet") => "aws.subnet_id",
        "VPCIdNotSpecified" | "DefaultVpcDoesNotExist" => "aws.subnet_id",
        _ => return error.into(),
    };
    BuildError::refused(attribute, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_not_there_is_told_on_its_attribute() {
        for (code, expected) in [
            ("InvalidVpcID.NotFound", Some("aws.vpc_id")),
            ("InvalidSubnetID.NotFound", Some("aws.subnet_id")),
            ("VPCIdNotSpecified", Some("aws.subnet_id")),
            ("SecurityGroupLimitExceeded", None),
        ] {
            let (code, message, request_id) = (code.to_owned(), "no".to_owned(), "r-1".to_owned());
            let error = misplaced(AwsError::Refused { operation: "x", code, message, request_id });
            let told = match &error {
                BuildError::Refused { attribute, problem } if problem.contains("r-1") => Some(*attribute),
                _ => None,
            };
            assert_eq!(told, expected, "{error}");
        }
    }

    #[test]
    fn one_address_is_a_network() {
        for (told, expected) in [
            ("203.0.113.7\n", Some("203.0.113.7/32")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("<html>", None),
            ("", None),
            ("0.0.0.0/0", None),
        ] {
            assert_eq!(network(told).as_deref(), expected, "{told}");
        }
    }

    #[tokio::test]
    async fn nobody_answering_says_what_to_set() {
        let error = ask("http://127.0.0.1:1").await.map_err(|reason| unknown(&reason)).unwrap_err();
        let BuildError::Refused { attribute, problem } = error else { panic!("{error}") };
        assert!(attribute == "aws.allowed_cidrs" && problem.contains("set `allowed_cidrs`"), "{problem}");
    }
}
