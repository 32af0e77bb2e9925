//! `CLOUD = { … }` in configuration and state, and what resources ask of it without knowing whose it is.
//!
//! A backend implements a section on its own model. Which sections an object has, the resource's model lists, once.

mod image;
mod vm;

pub use image::{ImageAround, ImageSection, ImageSlot};
pub use vm::{VmAround, VmChange, VmSection, VmSlot};

use tfplugin::Attr;

/// A section in which all is as the schema says when the user says nothing.
#[cfg(test)]
pub(in crate::backends) fn with_defaults<M: tfplugin::Model>() -> M {
    let all = M::attributes().into_iter();
    let all = all.map(|attribute| (attribute.name, attribute.default.unwrap_or_default()));
    tfplugin::model::decode(&tfplugin::Value::object(all)).unwrap()
}

/// The one section that is set; unknown as long as any may still turn out to be. None where there are two.
pub fn chosen<S>(all: impl IntoIterator<Item = Attr<S>>) -> Attr<S> {
    let mut known = Vec::new();
    for section in all {
        match section {
            Attr::Null => {}
            Attr::Unknown => return Attr::Unknown,
            Attr::Known(section) => known.push(section),
        }
    }
    let only = if known.len() == 1 { known.pop() } else { None };
    only.into()
}
