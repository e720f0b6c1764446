//! The files of a package for the images that name others: extents of a split VMDK, the parent of a delta.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{Error, ErrorKind, FileRange, MAX_LISTED, Neighbours};

use crate::package::Package;

/// The package around an image.
#[derive(Debug)]
pub(super) struct Members(Arc<Package>);

impl Members {
    pub(super) fn new(package: Arc<Package>) -> Self {
        Self(package)
    }
}

impl Neighbours for Members {
    /// Looks in the folder of the image within the package.
    fn open(&self, child: &str, name: &Path) -> image::Result<Option<FileRange>> {
        let Some(name) = name.to_str() else {
            return Ok(None);
        };
        let folder = self.0.folder_of(child).unwrap_or_default();
        self.0.get(&format!("{folder}{name}")).map_err(of_image)
    }

    /// The files of the descriptor's folder, where the image is one of them.
    fn list(&self, child: &str) -> image::Result<Vec<PathBuf>> {
        if self
            .0
            .folder_of(child)
            .is_none_or(|folder| !folder.is_empty())
        {
            return Ok(Vec::new());
        }
        let names = self.0.names().map_err(of_image)?;
        Ok(names
            .into_iter()
            .take(MAX_LISTED)
            .map(PathBuf::from)
            .collect())
    }
}

fn of_image(error: crate::Error) -> Error {
    let kind = match error.kind() {
        crate::ErrorKind::Refused | crate::ErrorKind::Unsupported => ErrorKind::Unsupported,
        crate::ErrorKind::Missing => ErrorKind::Missing,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, error.to_string())
}
