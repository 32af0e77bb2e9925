//! Reads doc comments and `#[attr(…)]`, and refuses contradictions.

use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Meta, Path};

/// What `#[attr(…)]` says of a field.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) required: bool,
    pub(crate) optional: bool,
    pub(crate) computed: bool,
    pub(crate) default: Option<Expr>,
    pub(crate) sensitive: bool,
    pub(crate) write_only: bool,
    pub(crate) requires_replace: bool,
    pub(crate) keep_prior: bool,
    pub(crate) deprecated: Option<LitStr>,
    pub(crate) rename: Option<LitStr>,
    pub(crate) validators: Vec<Path>,
}

impl Options {
    pub(crate) fn parse(attrs: &[Attribute]) -> syn::Result<Self> {
        let mut options = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("attr")) {
            attr.parse_nested_meta(|meta| {
                let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                match name.as_str() {
                    "required" => options.required = true,
                    "optional" => options.optional = true,
                    "computed" => options.computed = true,
                    "sensitive" => options.sensitive = true,
                    "write_only" => options.write_only = true,
                    "requires_replace" => options.requires_replace = true,
                    "keep_prior" => options.keep_prior = true,
                    "default" => options.default = Some(meta.value()?.parse()?),
                    "deprecated" => options.deprecated = Some(meta.value()?.parse()?),
                    "rename" => options.rename = Some(meta.value()?.parse()?),
                    "validate" => options.validators.push(meta.value()?.parse()?),
                    _ => return Err(meta.error("unknown option")),
                }
                Ok(())
            })?;
        }
        Ok(options)
    }

    /// What cannot be true at once, in the order of the rules.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let kinds = [self.required, self.optional, self.computed];
        let has_default = self.default.is_some();
        let rules = [
            (
                kinds == [false; 3],
                "say who sets this attribute: `required`, `optional`, `computed`, or `optional, computed`",
            ),
            (self.required && self.optional, "an attribute is `required` or `optional`, not both"),
            (self.required && self.computed, "what the user must set is not `computed`"),
            (self.required && has_default, "a `required` attribute is always set and has no `default`"),
            (has_default && !self.optional, "only an `optional` attribute has a `default`"),
            (self.write_only && self.computed, "a `write_only` attribute is never stored, so not `computed`"),
            (self.write_only && has_default, "a `write_only` attribute is never stored, so has no `default`"),
            (
                self.write_only && self.requires_replace,
                "a change of a `write_only` attribute is not seen; put `requires_replace` on its version",
            ),
            (self.keep_prior && !self.computed, "only a `computed` attribute can `keep_prior`"),
            (self.keep_prior && has_default, "an attribute with a `default` needs no `keep_prior`"),
            (
                !self.validators.is_empty() && !self.required && !self.optional,
                "what only the provider sets needs no `validate`",
            ),
        ];
        rules.into_iter().find_map(|(broken, message)| broken.then_some(message))
    }
}

/// The text of a doc comment, its lines joined as they stand.
pub(crate) fn doc_comment(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    let lines: Vec<_> =
        lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n").trim().to_owned()
}

/// The description of a whole struct.
pub(crate) fn container_description(attrs: &[Attribute]) -> syn::Result<String> {
    let mut description = doc_comment(attrs);
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("attr")) {
        attr.parse_nested_meta(|meta| {
            if !meta.path.is_ident("description") {
                return Err(Error::new(meta.path.span(), "unknown option"));
            }
            description = meta.value()?.parse::<LitStr>()?.value();
            Ok(())
        })?;
    }
    Ok(description)
}
