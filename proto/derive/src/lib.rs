//! `#[derive(Model)]`: schema, decoding and encoding of an object from one struct.
//! Lowers to the public builder of `tfplugin::schema`; knows nothing of any type's encoding.

mod field;
mod options;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, parse_macro_input};

use field::Field;

/// Implements `tfplugin::Model` for a struct whose fields are all `Attr<T>`.
///
/// Doc comments become descriptions. On each field, `#[attr(…)]` says who sets it: `required`, `optional`,
/// `computed`, or `optional, computed`; and further
/// `default = <expression>`, `sensitive`, `write_only`, `requires_replace`, `keep_prior` (a computed value
/// that never changes once set), `deprecated = "use …"`, `rename = "…"`, and `validate = <function>`
/// (`fn(&T) -> Result<(), String>`, or of what `T` dereferences to; not called for null or unknown; may be
/// given more than once).
///
/// On the struct, `#[attr(description = "…")]` takes the place of its doc comment.
#[proc_macro_derive(Model, attributes(attr))]
pub fn derive_model(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(input: &DeriveInput) -> syn::Result<Tokens> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "a model is a struct"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(&input.ident, "a model's fields have names"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a model takes no parameters"));
    }
    let fields = collect(named.named.iter().map(Field::parse))?;
    unique_names(&fields)?;
    let name = &input.ident;
    let description = options::container_description(&input.attrs)?;
    let attributes = fields.iter().map(Field::attribute);
    let decode = fields.iter().map(Field::decode);
    let encode = fields.iter().map(Field::encode);
    let idents: Vec<_> = fields.iter().map(|field| field.ident).collect();
    let locals: Vec<_> = fields.iter().map(Field::local).collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::tfplugin::Model for #name {
            fn attributes() -> ::std::vec::Vec<::tfplugin::Attribute> {
                ::std::vec![#(#attributes),*]
            }

            fn description() -> &'static str {
                #description
            }

            fn decode(
                value: &::tfplugin::Value,
                path: &::tfplugin::Path,
                diags: &mut ::tfplugin::Diagnostics,
            ) -> ::std::option::Option<Self> {
                if !::tfplugin::model::expect_object(value, path, diags) {
                    return ::std::option::Option::None;
                }
                // All fields are read before the first failure counts, so that every mistake is told.
                #(#decode)*
                ::std::option::Option::Some(Self { #(#idents: #locals?),* })
            }

            fn encode(&self) -> ::tfplugin::Value {
                ::tfplugin::Value::object::<_, ::tfplugin::Value>([#(#encode),*])
            }
        }

        #[automatically_derived]
        impl ::tfplugin::AttrType for #name {
            fn attribute_type() -> ::tfplugin::AttributeType {
                ::tfplugin::AttributeType::Nested {
                    nesting: ::tfplugin::Nesting::Single,
                    attributes: <Self as ::tfplugin::Model>::attributes(),
                }
            }

            fn decode_known(
                value: &::tfplugin::Value,
                path: &::tfplugin::Path,
                diags: &mut ::tfplugin::Diagnostics,
            ) -> ::std::option::Option<::tfplugin::Attr<Self>> {
                <Self as ::tfplugin::Model>::decode(value, path, diags).map(::tfplugin::Attr::Known)
            }

            fn encode_known(&self) -> ::tfplugin::Value {
                <Self as ::tfplugin::Model>::encode(self)
            }
        }
    })
}

/// All results, or all errors in one.
fn collect<T>(results: impl Iterator<Item = syn::Result<T>>) -> syn::Result<Vec<T>> {
    let (mut all, mut errors) = (Vec::new(), None::<Error>);
    for result in results {
        match (result, &mut errors) {
            (Ok(one), _) => all.push(one),
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }
    errors.map_or(Ok(all), Err)
}

fn unique_names(fields: &[Field<'_>]) -> syn::Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    match fields.iter().find(|field| !seen.insert(&field.name)) {
        Some(field) => {
            Err(Error::new_spanned(field.ident, format!("there are two attributes `{}`", field.name)))
        }
        None => Ok(()),
    }
}
