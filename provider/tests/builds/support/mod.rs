//! What these tests share.

pub(crate) mod debian;
pub(crate) mod image;
pub(crate) mod moto;
pub(crate) mod small_disk;
