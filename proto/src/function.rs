//! Provider functions: pure computations that a configuration calls as `provider::name::function(…)`.

use crate::value::{Type, Value};

/// A function that the provider offers.
pub trait Function: Send + Sync + 'static {
    /// Its name, in `snake_case`.
    fn name(&self) -> &'static str;

    /// Its parameters and result.
    fn signature(&self) -> FunctionSignature;

    /// Computes the result. Arguments come in the order of the parameters, variadic ones after them; each is
    /// of its parameter's type. Values of type `dynamic` are [`Value::Dynamic`]: see [`Value::untyped`].
    ///
    /// # Errors
    /// What is wrong with the arguments.
    fn call(&self, arguments: Vec<Value>) -> Result<Value, FunctionError>;
}

/// A function's parameters and result.
#[derive(Debug, Clone)]
pub struct FunctionSignature {
    /// The parameters, in order.
    pub parameters: Vec<Parameter>,
    /// If set, further arguments of this type may follow.
    pub variadic: Option<Parameter>,
    /// The type of the result.
    pub returns: Type,
    /// One line on what it does.
    pub summary: String,
    /// What it does, in Markdown.
    pub description: String,
}

/// One parameter of a function.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub ty: Type,
    /// Whether the function takes null; otherwise the host refuses it.
    pub allow_null: bool,
    /// Whether the function takes unknown values; otherwise the host does not call it until they are known.
    pub allow_unknown: bool,
    /// What it is, in Markdown.
    pub description: String,
}

impl Parameter {
    /// A parameter that is never null or unknown.
    pub fn new(name: impl Into<String>, ty: Type, description: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ty,
            allow_null: false,
            allow_unknown: false,
            description: description.into(),
        }
    }
}

/// Why a function has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FunctionError {
    /// What is wrong.
    pub text: String,
    /// Which argument is to blame, from zero.
    pub argument: Option<i64>,
}

impl FunctionError {
    /// An error about no argument in particular.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), argument: None }
    }

    /// An error about the argument number `argument`, from zero.
    pub fn argument(argument: i64, text: impl Into<String>) -> Self {
        Self { text: text.into(), argument: Some(argument) }
    }
}
