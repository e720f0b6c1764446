//! Opens what a user names: a path, or the URI of an NBD export.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::OpenOptions;
use super::open::open_labelled;
use crate::nbd::client::{Client, Uri};
use crate::{BlockSource, FileRange, Files, Result};

/// An open image with the names of the files that it and its parents were read from.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The image.
    pub source: Arc<dyn BlockSource>,
    /// The image's own label, its parent's, and so on; as many as the chain is long.
    pub labels: Vec<String>,
}

impl Chain {
    /// The image and its parents, the image first, each with its label.
    pub fn layers(&self) -> Vec<(String, Arc<dyn BlockSource>)> {
        let mut layers = Vec::new();
        let mut next = Some(Arc::clone(&self.source));
        while let Some(layer) = next {
            let label = self.labels.get(layers.len()).cloned().unwrap_or_default();
            next = layer.parent();
            layers.push((label, layer));
        }
        layers
    }
}

/// True when `location` is the URI of an NBD export and not a path.
pub fn is_uri(location: &OsStr) -> bool {
    location.to_str().is_some_and(Uri::is_one)
}

/// The bytes at a path, or of an NBD export: `nbd://HOST[:PORT][/EXPORT]`, `nbd+unix:///[EXPORT]?socket=PATH`.
pub fn open_bytes(location: impl AsRef<OsStr>) -> Result<FileRange> {
    let location = location.as_ref();
    match location.to_str().filter(|text| Uri::is_one(text)) {
        Some(uri) => Client::open(uri),
        None => FileRange::open(Path::new(location)),
    }
}

/// Opens the image at a path or in an NBD export. What it names is looked for beside a file, and nowhere for an
/// export, unless the options say otherwise.
pub fn open_location(
    location: impl AsRef<OsStr>,
    options: &OpenOptions,
) -> Result<Arc<dyn BlockSource>> {
    open_chain(location, options).map(|chain| chain.source)
}

/// The same with the names of all files of the chain.
pub fn open_chain(location: impl AsRef<OsStr>, options: &OpenOptions) -> Result<Chain> {
    let location = location.as_ref();
    let mut options = options.clone();
    if !is_uri(location) {
        options
            .files
            .get_or_insert_with(|| Files::beside(Path::new(location)));
    }
    let (source, mut labels) = open_labelled(open_bytes(location)?, &options)?;
    // What lies beside a bare file name is a bare file name too.
    if !location.as_encoded_bytes().contains(&b'/') {
        for label in &mut labels {
            if let Some(bare) = label.strip_prefix("./") {
                *label = bare.to_owned();
            }
        }
    }
    Ok(Chain { source, labels })
}
