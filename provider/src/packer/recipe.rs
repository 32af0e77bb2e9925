//! A template in the forms in which versions of Packer take it, the best first: rendered, written, its plugins fetched,
//! validated or built. Packer itself looks at a template before it begins anything with it, so that a build needs no
//! validation before it.

use std::path::Path;

use super::{Job, Packer, PackerError, Plugins, Report, Said, Variables};

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
        for (number, form) in recipe.forms.iter().enumerate() {
            self.lay_out(job, recipe, form).await?;
            match self.validate(job).await {
                Ok(()) => return Ok(number),
                Err(error) if recipe.goes_on(number, &error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(PackerError::NoForm)
    }

    /// Builds the first form that this Packer accepts; of the others nothing is begun. Returns the form's number, too.
    ///
    /// # Errors
    /// Those of [`Packer::accept`] and of [`Packer::build`].
    pub async fn build_accepted(
        &self,
        job: &Job<'_>,
        recipe: &Recipe<'_>,
        mut said: impl FnMut(Said, &str) + Send,
    ) -> Result<(usize, Report), PackerError> {
        for (number, form) in recipe.forms.iter().enumerate() {
            self.lay_out(job, recipe, form).await?;
            match self.build(job, &mut said).await {
                Ok(report) => return Ok((number, report)),
                Err(error) if recipe.goes_on(number, &error) => {}
                Err(error) => {
                    job.tell(&error);
                    return Err(error);
                }
            }
        }
        Err(PackerError::NoForm)
    }

    async fn lay_out(&self, job: &Job<'_>, recipe: &Recipe<'_>, form: &Form) -> Result<(), PackerError> {
        job.folder.write(&form.hcl, recipe.variables)?;
        match form.plugins {
            Plugins::Bundled => Ok(()),
            Plugins::Required => self.init(job, recipe.required, recipe.lock_dir).await,
        }
    }
}

impl Recipe<'_> {
    /// Whether this form is only not for this Packer, and there is another one.
    fn goes_on(&self, number: usize, error: &PackerError) -> bool {
        let PackerError::Invalid { output, .. } = error else { return false };
        number + 1 < self.forms.len() && self.forms[number].refused.iter().any(|words| output.contains(words))
    }
}
