//! The data sources: what a configuration only reads.

mod image;
mod images;
mod prerequisites;

pub use image::ImageDataSource;
pub use images::ImagesDataSource;
pub use prerequisites::PrerequisitesDataSource;
