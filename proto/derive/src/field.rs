//! One field of a model, and the code for it.

use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{Error, Expr, ExprLit, GenericArgument, Ident, Lit, PathArguments, Type};

use crate::options::{Options, doc_comment};

pub(crate) struct Field<'a> {
    pub(crate) ident: &'a Ident,
    /// The attribute's name.
    pub(crate) name: String,
    /// `T` of `Attr<T>`.
    ty: &'a Type,
    description: String,
    options: Options,
}

impl<'a> Field<'a> {
    pub(crate) fn parse(field: &'a syn::Field) -> syn::Result<Self> {
        let Some(ident) = &field.ident else {
            return Err(Error::new_spanned(field, "a model's fields have names"));
        };
        let Some(ty) = inner_of_attr(&field.ty) else {
            return Err(Error::new_spanned(&field.ty, "a model's fields are of type `Attr<_>`"));
        };
        let options = Options::parse(&field.attrs)?;
        if let Some(message) = options.contradiction() {
            return Err(Error::new_spanned(ident, message));
        }
        let description = doc_comment(&field.attrs);
        if description.is_empty() {
            return Err(Error::new_spanned(ident, "every attribute has a description: write a doc comment"));
        }
        let name = match &options.rename {
            Some(name) => name.value(),
            None => ident.to_string().trim_start_matches("r#").to_owned(),
        };
        if !is_attribute_name(&name) {
            return Err(Error::new_spanned(ident, "an attribute's name is made of a-z, 0-9 and `_`"));
        }
        Ok(Self { ident, name, ty, description, options })
    }

    /// The call of the schema's builder.
    pub(crate) fn attribute(&self) -> Tokens {
        let Self { name, ty, description, options, .. } = self;
        let constructor = match (options.required, options.optional, options.computed) {
            (true, ..) => quote!(required),
            (_, true, true) => quote!(optional_computed),
            (_, true, false) => quote!(optional),
            _ => quote!(computed),
        };
        let flags = [
            (options.sensitive, quote!(.sensitive())),
            (options.write_only, quote!(.write_only())),
            (options.requires_replace, quote!(.requires_replace())),
            (options.keep_prior, quote!(.keep_prior())),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, call)| call);
        let deprecated = options.deprecated.iter().map(|text| quote!(.deprecated(#text)));
        let default = options.default.iter().map(|expression| {
            let expression = typed_default(expression);
            quote! {
                .default({
                    let default: #ty = #expression;
                    <#ty as ::tfplugin::AttrType>::encode_known(&default)
                })
            }
        });
        let validators = options.validators.iter().map(|function| {
            quote! {
                .validator(|value| ::tfplugin::model::validate_known::<#ty>(value, |known| #function(known)))
            }
        });
        quote! {
            ::tfplugin::Attribute::#constructor(#name, <#ty as ::tfplugin::AttrType>::attribute_type())
                .description(#description)
                #(#flags)*
                #(#deprecated)*
                #(#default)*
                #(#validators)*
        }
    }

    pub(crate) fn decode(&self) -> Tokens {
        let Self { name, ty, .. } = self;
        let local = self.local();
        quote!(let #local = ::tfplugin::model::decode_field::<#ty>(value, #name, path, diags);)
    }

    /// The variable that holds the field while the object is read. A field may be called like one of the
    /// function's own variables.
    pub(crate) fn local(&self) -> Ident {
        Ident::new(&format!("field_{}", self.name), Span::mixed_site())
    }

    pub(crate) fn encode(&self) -> Tokens {
        let Self { ident, name, .. } = self;
        quote!((#name, ::tfplugin::model::encode_field(&self.#ident)))
    }
}

/// A string literal stands for a `String`.
fn typed_default(expression: &Expr) -> Tokens {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => quote!(::std::string::String::from(#text)),
        other => quote!(#other),
    }
}

fn inner_of_attr(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Attr")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(inner) if arguments.args.len() == 1 => Some(inner),
        _ => None,
    }
}

fn is_attribute_name(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_lowercase() || letter == '_')
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}
