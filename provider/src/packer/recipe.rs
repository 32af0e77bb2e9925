//! A template in the forms in which versions of Packer take it, the best first: rendered, written, its plugins fetched,
//! validated.

use std::path::Path;

use super::{Job, Packer, PackerError, Plugins, Variables};

/// One form of a template.
#[derive(Debug, Clone)]
pub struct Form {
    /// The template.
    pub hcl: String,
    /// Where its builder comes from.
    pub plugins: Plugins,
    /// What Packer says when this form is not for it.
    pub refused: &'static [&'static str],
}

/// What Packer is to build.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The template's forms, to be tried in order; of none of them more is used than is needed.
    pub forms: &'a [Form],
    /// The values, the same for all forms.
    pub variables: &'a Variables,
    /// What the template requires when it requires something: name and version.
    pub required: &'a str,
    /// A folder that all runs on this computer share.
    pub lock_dir: &'a Path,
}

impl Packer {
    /// Has the job's folder hold a form that this Packer accepts. Returns the form's number.
    ///
    /// # Errors
    /// When plugins cannot be had; [`PackerError::Invalid`] when no form is accepted.
    pub async fn accept(&self, job: &Job<'_>, recipe: &Recipe<'_>) -> Result<usize, PackerError> {
        let mut forms = recipe.forms.iter().enumerate().peekable();
        while let Some((number, form)) = forms.next() {
            job.folder.write(&form.hcl, recipe.variables)?;
            if form.plugins == Plugins::Required {
                self.init(job, recipe.required, recipe.lock_dir).await?;
            }
            match self.validate(job).await {
                Ok(()) => return Ok(number),
                Err(PackerError::Invalid { output, .. })
                    if forms.peek().is_some() && form.refused.iter().any(|words| output.contains(words)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(PackerError::NoForm)
    }
}
