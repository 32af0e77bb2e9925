//! What a build would hand to Packer, without one: nothing is made in EC2 or asked of it. What only a build has is told by
//! words in its place.

use aws_sdk_ec2::types::Image as Ami;
use uuid::Uuid;

use super::template::{self, NEEDED, Values};
use super::{BuildError, Tools, access, engine, name, work};
use crate::backends::aws::image::{AwsImageSpec, Source};
use crate::domain::template::Script;
use crate::domain::{BackendError, Template, TemplateRequest};
use crate::provision::parts::{self, Handed, KEY, Preview, PreviewError};

/// Stands for the id of the build.
const BUILD: &str = "(the build's id)";
/// Stands for when it must be over.
const DEADLINE: &str = "(the build's deadline)";
/// Stands for a key pair or a security group.
const MADE: &str = "(made for the build)";
/// Stands for the public key, in the form of one.
const PUBLIC_KEY: &str = "ssh-ed25519 (the-key-of-the-build)";
/// Stands for the name of the source image's root volume.
const DEVICE: &str = "(the source image's root device)";

/// What is shown of an image.
pub(super) async fn template(
    spec: &AwsImageSpec,
    tools: &Tools,
    endpoint: Option<String>,
    request: &TemplateRequest,
) -> Result<Template, BackendError> {
    let used = parts::Tools { packer: &tools.packer, runner: &tools.runner, lock_dir: &tools.cache_dir };
    let preview = Preview { request, tools: used, needed: NEEDED };
    let chosen = preview.packer().await.map_err(PreviewError::into_backend)?;
    let own_plugins = tools.packer.own_plugins();
    let drafts = engine::drafts(&request.spec, spec, public_key(spec, request)).map_err(into_backend)?;
    let listed = parts::parts(&drafts);
    let forms = template::forms(chosen.version, own_plugins, spec.builder.spot, 0, &listed);
    let forms = forms.map_err(|error| PreviewError::from(error).into_backend())?;
    let variables = variables(spec, request, endpoint.as_deref(), &listed).map_err(into_backend)?;
    let handed = Handed { forms, variables, drafts, required: engine::required(), files: &[] };
    let mut shown = preview.show(&chosen, handed).await.map_err(PreviewError::into_backend)?;
    if spec.verify_boot {
        shown.scripts.extend(request.spec.checks.iter().map(Script::of_check));
    }
    Ok(shown)
}

fn variables(
    spec: &AwsImageSpec,
    request: &TemplateRequest,
    endpoint: Option<&str>,
    listed: &[parts::Part],
) -> Result<crate::packer::Variables, BuildError> {
    // To be looked at only, it need not be buildable here.
    let spec = if request.validate { access::on_this_computer(spec)? } else { spec.clone() };
    let name = name::of(&request.spec.name_prefix, &request.key, Uuid::nil())?;
    let login = &spec.builder.login;
    let groups = match spec.builder.security_group_ids.as_slice() {
        [] => vec![MADE.to_owned()],
        own => own.to_vec(),
    };
    let key_file = login.private_key_path.as_ref().map(|path| path.display().to_string());
    let values = Values {
        spec: &spec,
        name: &name,
        base: &source(&spec.source),
        tags: &work::tags_of(&name, &request.tags, BUILD, DEADLINE),
        groups: &groups,
        key_name: login.keypair_name.as_deref().unwrap_or(MADE),
        key_file: key_file.as_deref().unwrap_or(KEY),
        endpoint,
        boot: engine::BOOT,
    };
    Ok(template::variables(&values, listed))
}

/// The AMI that the image starts from, by its id, or by what it is looked for.
fn source(source: &Source) -> Ami {
    let id = match source {
        Source::Id(id) => id.clone(),
        Source::Newest { name, owners } => format!("(the newest {name} of {})", owners.join(" or ")),
    };
    Ami::builder().image_id(id).root_device_name(DEVICE).build()
}

/// The key that the last script removes: the user's own only where all that is sensitive is removed.
fn public_key(spec: &AwsImageSpec, request: &TemplateRequest) -> Option<&'static str> {
    let own = spec.builder.login.keypair_name.is_some();
    (!own || request.spec.security.clean_sensitive_data).then_some(PUBLIC_KEY)
}

fn into_backend(error: BuildError) -> BackendError {
    match error {
        BuildError::Refused { attribute, problem } => {
            BackendError::Refused { attribute: attribute.to_owned(), problem }
        }
        BuildError::Parts(error) => PreviewError::from(error).into_backend(),
        other => BackendError::failed("rendering the template", other),
    }
}
