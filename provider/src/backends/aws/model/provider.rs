//! How we come to AWS.

use tfplugin::{Attr, Model};

use crate::backends::aws::settings::{self, AssumeRole, AwsSettings};
use crate::domain::names;

/// How the provider comes to AWS.
#[derive(Debug, Clone, Default, Model)]
pub struct AwsProviderModel {
    /// The region of objects that name none; `AWS_REGION` or the profile's region when not set, else `us-west-2`.
    #[attr(optional, validate = settings::region)]
    pub region: Attr<String>,
    /// A profile of the AWS configuration files; `AWS_PROFILE` when not set.
    #[attr(optional, validate = names::text)]
    pub profile: Attr<String>,
    /// Where the API of EC2 is, for a private endpoint: in the region that stands in its name, else in the provider's. Other
    /// services and regions are asked where AWS has them. One on this computer (`http://127.0.0.1:…`), an emulator, is asked
    /// for all of them. `AWS_ENDPOINT_URL_EC2` or `AWS_ENDPOINT_URL` when not set.
    #[attr(optional, validate = settings::endpoint_url)]
    pub endpoint_url: Attr<String>,
    /// A role to take on.
    #[attr(optional)]
    pub assume_role: Attr<AssumeRoleModel>,
    /// Accounts that may be worked in. With credentials of another one everything fails before it begins.
    #[attr(optional, validate = account_ids)]
    pub allowed_account_ids: Attr<Vec<String>>,
}

/// A role to take on.
#[derive(Debug, Clone, Default, Model)]
pub struct AssumeRoleModel {
    /// The role's ARN.
    #[attr(required, validate = settings::role_arn)]
    pub role_arn: Attr<String>,
    /// How the session is called in CloudTrail; `sindri` when not set.
    #[attr(optional, validate = session_name)]
    pub session_name: Attr<String>,
    /// How long its credentials last, such as `"3h"`: one hour when not set, as long as the role allows at most. Packer, which
    /// builds images, cannot renew them.
    #[attr(optional, validate = duration)]
    pub duration: Attr<String>,
    /// What the role's trust policy asks for.
    #[attr(optional, validate = names::text)]
    pub external_id: Attr<String>,
}

impl AwsProviderModel {
    /// What the backend needs to know. All values are known.
    pub fn settings(&self) -> AwsSettings {
        let role = self.assume_role.known().map(|role| AssumeRole {
            role_arn: role.role_arn.clone().unwrap_or_default(),
            session_name: role.session_name.clone().into_known(),
            duration: role.duration.known().and_then(|text| tfplugin::parse_duration(text).ok()),
            external_id: role.external_id.clone().into_known(),
        });
        AwsSettings {
            region: self.region.clone().into_known(),
            profile: self.profile.clone().into_known(),
            endpoint_url: self.endpoint_url.clone().into_known(),
            assume_role: role,
            allowed_account_ids: self.allowed_account_ids.clone().unwrap_or_default(),
        }
    }
}

fn account_ids(ids: &[String]) -> Result<(), String> {
    if ids.is_empty() {
        return Err("must not be empty: leave it out to allow any account".into());
    }
    ids.iter().try_for_each(|id| settings::account_id(id))
}

/// By `AssumeRole` of AWS's STS.
fn duration(text: &str) -> Result<(), String> {
    tfplugin::is_duration(text)?;
    let seconds = tfplugin::parse_duration(text).map(|duration| duration.as_secs()).unwrap_or_default();
    if (900..=43_200).contains(&seconds) { Ok(()) } else { Err("must be from \"15m\" to \"12h\"".into()) }
}

fn session_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_=,.@-".contains(&byte);
    if (2..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err("must have 2 to 64 letters, digits and characters of _=,.@-".into())
}

#[cfg(test)]
mod tests {
    use tfplugin::value::json;
    use tfplugin::{Diagnostics, Schema};

    use super::*;

    fn told(text: &str) -> Vec<String> {
        let config = json::decode(Schema::of::<AwsProviderModel>(0).ty(), text.as_bytes()).unwrap();
        let mut diags = Diagnostics::new();
        tfplugin::schema::check_config(&AwsProviderModel::attributes(), &config, true, &mut diags);
        diags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_mistake_is_told_on_its_attribute() {
        let good = r#"{"region": "eu-central-1", "profile": "ci", "endpoint_url": "http://127.0.0.1:5000",
            "allowed_account_ids": ["012345678901"],
            "assume_role": {"role_arn": "arn:aws:iam::123456789012:role/ci", "session_name": "ci"}}"#;
        assert_eq!(told(good), Vec::<String>::new());
        for (mistake, at) in [
            (r#"{"region": "Oregon"}"#, "region: "),
            (r#"{"endpoint_url": "127.0.0.1:5000"}"#, "endpoint_url: "),
            (r#"{"allowed_account_ids": ["1"]}"#, "allowed_account_ids: "),
            (r#"{"allowed_account_ids": []}"#, "allowed_account_ids: "),
            (r#"{"assume_role": {"role_arn": "ci"}}"#, "assume_role.role_arn: "),
            (
                r#"{"assume_role": {"role_arn": "arn:aws:iam::123456789012:role/ci", "duration": "13h"}}"#,
                "assume_role.duration: ",
            ),
            (
                r#"{"assume_role": {"role_arn": "arn:aws:iam::123456789012:role/ci", "session_name": "a b"}}"#,
                "assume_role.session_name: ",
            ),
        ] {
            assert!(told(mistake).iter().any(|line| line.starts_with(at)), "{mistake}: {:?}", told(mistake));
        }
    }
}
