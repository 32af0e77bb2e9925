//! Schemas: which attributes an object has and what may be done with each.
//! Must not know the wire, nor what a resource does with its values.

mod check;
mod docs;

pub use docs::provider_schema_json;

pub use check::check_config;
pub(crate) use check::write_only_to_null;

use std::sync::OnceLock;

use crate::value::{Type, Value};

/// The schema of a resource, a data source, or a provider's configuration.
#[derive(Debug)]
pub struct Schema {
    /// Raised when stored state must be upgraded.
    pub(crate) version: i64,
    /// In the order in which they are documented.
    pub(crate) attributes: Vec<Attribute>,
    /// What it is, in Markdown.
    pub(crate) description: &'static str,
    /// Hosts start a provider for its schema alone, and that needs no type.
    ty: OnceLock<Type>,
}

impl Schema {
    /// The schema that the struct `M` declares.
    pub fn of<M: crate::model::Model>(version: i64) -> Self {
        Self { version, attributes: M::attributes(), description: M::description(), ty: OnceLock::new() }
    }

    /// The type of its values: an object of all attributes.
    pub fn ty(&self) -> &Type {
        self.ty.get_or_init(|| object_type(&self.attributes))
    }
}

/// Who sets an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The user must.
    Required,
    /// The user may.
    Optional,
    /// The provider does.
    Computed,
    /// The user may; otherwise the provider does.
    OptionalComputed,
}

impl Kind {
    /// Whether the provider may set it.
    pub fn is_computed(self) -> bool {
        matches!(self, Self::Computed | Self::OptionalComputed)
    }

    /// Whether the user may leave it out.
    pub fn is_optional(self) -> bool {
        matches!(self, Self::Optional | Self::OptionalComputed)
    }
}

/// How many objects a nested attribute holds, and how one finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// One object.
    Single,
    /// A list of objects.
    List,
    /// A set of objects.
    Set,
    /// A map of objects.
    Map,
}

/// What an attribute holds.
#[derive(Debug, Clone)]
pub enum AttributeType {
    /// A value of a plain type.
    Simple(Type),
    /// Objects whose attributes have a schema of their own.
    Nested {
        /// How many.
        nesting: Nesting,
        /// The attributes of each.
        attributes: Vec<Attribute>,
    },
}

impl AttributeType {
    /// The type of its values.
    pub fn ty(&self) -> Type {
        match self {
            Self::Simple(ty) => ty.clone(),
            Self::Nested { nesting, attributes } => {
                let object = object_type(attributes);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::list(object),
                    Nesting::Set => Type::set(object),
                    Nesting::Map => Type::map(object),
                }
            }
        }
    }

    /// A collection of what `self` is; `nesting` says which.
    pub(crate) fn collected(self, nesting: Nesting) -> Self {
        match self {
            Self::Nested { nesting: Nesting::Single, attributes } => Self::Nested { nesting, attributes },
            other => Self::Simple(match nesting {
                Nesting::Set => Type::set(other.ty()),
                Nesting::Map => Type::map(other.ty()),
                Nesting::List | Nesting::Single => Type::list(other.ty()),
            }),
        }
    }
}

/// Says what is wrong with a known value, if anything is.
pub type Validator = fn(&Value) -> Result<(), String>;

/// One attribute. Made by the four constructors, then refined.
#[derive(Debug, Clone)]
pub struct Attribute {
    /// Its name, in `snake_case`.
    pub name: &'static str,
    /// Who sets it.
    pub kind: Kind,
    /// What it holds.
    pub ty: AttributeType,
    /// What it is, in Markdown.
    pub description: &'static str,
    /// Hosts hide it.
    pub sensitive: bool,
    /// Never stored: read from the configuration only.
    pub write_only: bool,
    /// If not empty, it is deprecated, and this says what to use instead.
    pub deprecation: &'static str,
    /// What it is when the user leaves it out.
    pub default: Option<Value>,
    /// A change of it replaces the object.
    pub requires_replace: bool,
    /// A computed value that an update does not change: plans show it as it was.
    pub keep_prior: bool,
    /// Checks on a known value in the configuration.
    pub validators: Vec<Validator>,
}

impl Attribute {
    /// An attribute that the user must set.
    pub fn required(name: &'static str, ty: AttributeType) -> Self {
        Self::new(name, Kind::Required, ty)
    }

    /// An attribute that the user may set.
    pub fn optional(name: &'static str, ty: AttributeType) -> Self {
        Self::new(name, Kind::Optional, ty)
    }

    /// An attribute that the provider sets.
    pub fn computed(name: &'static str, ty: AttributeType) -> Self {
        Self::new(name, Kind::Computed, ty)
    }

    /// An attribute that the user may set, and the provider sets otherwise.
    pub fn optional_computed(name: &'static str, ty: AttributeType) -> Self {
        Self::new(name, Kind::OptionalComputed, ty)
    }

    fn new(name: &'static str, kind: Kind, ty: AttributeType) -> Self {
        Self {
            name,
            kind,
            ty,
            description: "",
            sensitive: false,
            write_only: false,
            deprecation: "",
            default: None,
            requires_replace: false,
            keep_prior: false,
            validators: Vec::new(),
        }
    }

    /// Sets the description, in Markdown.
    #[must_use]
    pub fn description(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// Has hosts hide the value.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Keeps the value out of plan and state.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// Deprecates it; `instead` says what to use.
    #[must_use]
    pub fn deprecated(mut self, instead: &'static str) -> Self {
        self.deprecation = instead;
        self
    }

    /// Sets what it is when the user leaves it out. Hosts then know it as computed, too.
    #[must_use]
    pub fn default(mut self, value: Value) -> Self {
        self.default = Some(value);
        self.kind = Kind::OptionalComputed;
        self
    }

    /// Has a change replace the object.
    #[must_use]
    pub fn requires_replace(mut self) -> Self {
        self.requires_replace = true;
        self
    }

    /// Has plans show the stored value: it never changes once it is set.
    #[must_use]
    pub fn keep_prior(mut self) -> Self {
        self.keep_prior = true;
        self
    }

    /// Adds a check on a known value in the configuration.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Self {
        self.validators.push(validator);
        self
    }
}

fn object_type(attributes: &[Attribute]) -> Type {
    Type::object(attributes.iter().map(|attribute| (attribute.name, attribute.ty.ty())))
}
