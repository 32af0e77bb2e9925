//! The data sources: what a configuration only reads.

mod image;
mod images;
mod prerequisites;
mod template;

pub use image::ImageDataSource;
pub use images::ImagesDataSource;
pub use prerequisites::PrerequisitesDataSource;
pub use template::TemplateDataSource;
