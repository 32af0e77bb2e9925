//! The way to AWS: credentials, endpoint, retries, and one client a region, made when first needed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ec2::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_ec2::config::{Region as SdkRegion, SharedCredentialsProvider};
use tokio::sync::OnceCell;

use super::error::ATTEMPTS;
use super::image::Claims;
use super::reach::Reach;
use super::region::Region;
use super::retries::{Busy, NoCapacity};
use super::settings::DEFAULT_REGION;
use super::{AwsError, AwsSettings, endpoint};
use crate::domain::{BackendError, CacheKey};

/// The first pause before a request is tried again; it doubles, and each is drawn at random up to that.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause. EC2 refills its buckets by the second.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// AWS, as the provider's configuration says.
#[derive(Debug)]
pub struct Aws {
    pub(super) settings: AwsSettings,
    /// Where keys and consoles of machines are kept.
    pub(super) data_dir: PathBuf,
    pub(super) claims: Claims,
    config: OnceCell<SdkConfig>,
    sts: OnceCell<aws_sdk_sts::Client>,
    account: OnceCell<String>,
    /// Whether an endpoint that has never answered is tried like any other.
    tries_on: Arc<AtomicBool>,
    regions: Mutex<BTreeMap<String, Arc<Region>>>,
}

impl Aws {
    /// Nothing is loaded or asked yet.
    pub fn new(settings: AwsSettings, data_dir: PathBuf) -> Self {
        Self {
            settings,
            data_dir,
            claims: Claims::default(),
            config: OnceCell::new(),
            sts: OnceCell::new(),
            account: OnceCell::new(),
            tries_on: Arc::default(),
            regions: Mutex::default(),
        }
    }

    /// From now on there is something to be removed: nothing is given up soon.
    pub(super) fn try_on(&self) {
        self.tries_on.store(true, Ordering::Relaxed);
    }

    /// The lock of those on this computer who build an image of this key.
    pub(super) fn turn_path(&self, region: &str, key: &CacheKey) -> PathBuf {
        self.data_dir.join("locks").join(format!("aws-{region}-{key}"))
    }

    /// A build's own folder: its key, its steps, what Packer is given.
    pub(super) fn build_dir(&self, build: uuid::Uuid) -> PathBuf {
        self.data_dir.join("builds").join(build.to_string())
    }

    /// The name of the region for an object that names this one or none: the configuration's, the environment's or the
    /// profile's. Asks AWS nothing, but for an instance's own metadata where there are any.
    pub async fn region_name(&self, named: Option<&str>) -> String {
        if let Some(name) = named.or(self.settings.region.as_deref()) {
            return name.to_owned();
        }
        self.config().await.region().map_or(DEFAULT_REGION, AsRef::as_ref).to_owned()
    }

    /// The names of all regions that the account may use.
    ///
    /// # Errors
    /// When AWS does not say.
    pub async fn region_names(&self) -> Result<Vec<String>, AwsError> {
        let home = self.region(None).await?;
        let all = home.ec2.describe_regions().send().await;
        let all = all.map_err(|error| AwsError::of("DescribeRegions", error))?.regions.unwrap_or_default();
        Ok(all.into_iter().filter_map(|region| region.region_name).collect())
    }

    /// A region to work in: the one that is named, or else the configuration's, the environment's or profile's.
    ///
    /// # Errors
    /// When the credentials are missing, or of an account that is not allowed.
    pub(super) async fn region(&self, name: Option<&str>) -> Result<Arc<Region>, AwsError> {
        let config = self.config().await;
        let name = self.region_name(name).await;
        self.check_account().await?;
        let endpoint = self.own_endpoint(&name).await;
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = regions.entry(name.clone()).or_insert_with(|| {
            let mut ec2 = aws_sdk_ec2::config::Builder::from(config);
            if let Some(url) = endpoint {
                ec2 = ec2.endpoint_url(url);
            }
            let reach = Reach::new(&name, &self.tries_on);
            let ec2 = ec2
                .region(SdkRegion::new(name.clone()))
                .interceptor(reach.clone())
                .retry_classifier(reach)
                .retry_classifier(NoCapacity)
                .retry_classifier(Busy)
                // The SDK's own bucket runs dry when ten resources are throttled at once.
                .retry_partition(
                    RetryPartition::custom(format!("sindri-{name}"))
                        .token_bucket(TokenBucket::unlimited())
                        .build(),
                )
                .build();
            Arc::new(Region::new(name, aws_sdk_ec2::Client::from_conf(ec2)))
        });
        Ok(Arc::clone(known))
    }

    /// [`Aws::region`] for a backend that is at something; `doing` says what was going on.
    ///
    /// # Errors
    /// Those of [`Aws::region`].
    pub(super) async fn region_for(
        &self,
        name: Option<&str>,
        doing: &str,
    ) -> Result<Arc<Region>, BackendError> {
        self.region(name).await.map_err(|error| error.into_backend(doing))
    }

    /// The account whose credentials we have; asked once.
    ///
    /// # Errors
    /// When AWS does not say.
    pub async fn account(&self) -> Result<&str, AwsError> {
        let ask = || async {
            let identity = self.caller().await?;
            let account = identity.account;
            account.ok_or(AwsError::Incomplete { operation: "GetCallerIdentity", what: "account" })
        };
        self.account.get_or_try_init(ask).await.map(String::as_str)
    }

    pub(super) async fn caller(
        &self,
    ) -> Result<aws_sdk_sts::operation::get_caller_identity::GetCallerIdentityOutput, AwsError> {
        let asked = self.sts().await.get_caller_identity().send().await;
        asked.map_err(|error| AwsError::of("sts:GetCallerIdentity", error))
    }

    async fn sts(&self) -> &aws_sdk_sts::Client {
        let config = self.config().await;
        let region = config.region().map_or(DEFAULT_REGION, AsRef::as_ref).to_owned();
        let made = async {
            let reach = Reach::new(&region, &self.tries_on);
            let sts = aws_sdk_sts::config::Builder::from(config).region(SdkRegion::new(region));
            aws_sdk_sts::Client::from_conf(sts.interceptor(reach.clone()).retry_classifier(reach).build())
        };
        self.sts.get_or_init(|| made).await
    }

    /// The credentials in use, for a program that works with AWS on our behalf.
    ///
    /// # Errors
    /// When there are none.
    pub(super) async fn credentials(&self) -> Result<Credentials, AwsError> {
        let Some(provider) = self.config().await.credentials_provider() else {
            return Err(AwsError::NoCredentials { source: "no provider of credentials is set up".into() });
        };
        provider.provide_credentials().await.map_err(AwsError::of_credentials)
    }

    /// Where the provider's configuration says that EC2 is for a region.
    async fn own_endpoint(&self, region: &str) -> Option<String> {
        let url = self.settings.endpoint_url.as_ref()?;
        let serves = endpoint::serves(url, region, &self.region_name(None).await);
        serves.then(|| url.clone())
    }

    /// Where EC2 is for a region, when that is another place than AWS's own.
    pub(super) async fn endpoint(&self, region: &str) -> Option<String> {
        let named = self.own_endpoint(region).await;
        let named =
            named.or_else(|| std::env::var("AWS_ENDPOINT_URL_EC2").ok().filter(|url| !url.is_empty()));
        match named {
            Some(url) => Some(url),
            None => self.config().await.endpoint_url().map(str::to_owned),
        }
    }

    async fn check_account(&self) -> Result<(), AwsError> {
        let allowed = &self.settings.allowed_account_ids;
        if allowed.is_empty() {
            return Ok(());
        }
        let account = self.account().await?;
        if allowed.iter().any(|id| id == account) {
            return Ok(());
        }
        Err(AwsError::OtherAccount { account: account.to_owned(), allowed: allowed.join(", ") })
    }

    async fn config(&self) -> &SdkConfig {
        self.config.get_or_init(|| self.load()).await
    }

    /// The credentials of a profile, and of no other source.
    async fn of_profile(&self, profile: &str) -> ProfileFileCredentialsProvider {
        let region = match &self.settings.region {
            Some(region) => Some(SdkRegion::new(region.clone())),
            None => DefaultRegionChain::builder().profile_name(profile).build().region().await,
        };
        let config = ProviderConfig::default()
            .with_region(Some(region.unwrap_or(SdkRegion::from_static(DEFAULT_REGION))));
        ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build()
    }

    async fn load(&self) -> SdkConfig {
        let settings = &self.settings;
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_PAUSE)
            .with_max_backoff(LONGEST_PAUSE);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(10))
            .operation_attempt_timeout(Duration::from_secs(60))
            .build();
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).retry_config(retries).timeout_config(timeouts);
        if let Ok(name) = AppName::new("sindri") {
            loader = loader.app_name(name);
        }
        if let Some(profile) = &settings.profile {
            // Named in the configuration, it wins over keys in the environment.
            loader = loader.profile_name(profile).credentials_provider(self.of_profile(profile).await);
        }
        if let Some(region) = &settings.region {
            loader = loader.region(RegionProviderChain::first_try(SdkRegion::new(region.clone())));
        }
        // What is on this computer is not AWS: it is asked for everything. Any other is EC2's alone.
        if let Some(url) = settings.endpoint_url.as_ref().filter(|url| endpoint::is_here(url)) {
            loader = loader.endpoint_url(url);
        }
        let config = loader.load().await;
        let Some(role) = &settings.assume_role else { return config };
        let region = config.region().cloned().unwrap_or(SdkRegion::new(DEFAULT_REGION));
        let mut provider = AssumeRoleProvider::builder(&role.role_arn)
            .configure(&config)
            .region(region)
            .session_name(role.session_name.as_deref().unwrap_or("sindri"));
        if let Some(duration) = role.duration {
            provider = provider.session_length(duration);
        }
        if let Some(id) = &role.external_id {
            provider = provider.external_id(id);
        }
        let credentials = SharedCredentialsProvider::new(provider.build().await);
        config.into_builder().credentials_provider(credentials).build()
    }
}
