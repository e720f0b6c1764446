//! How every command opens the images it reads.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use image::Files;
use image::formats::{Chain, Format, OpenOptions, is_uri, open_chain};

use super::in_use;

/// Which other files an image may name, and whether it may be in use.
#[derive(Debug, Clone, Args)]
pub(super) struct Reach {
    /// Let images name files anywhere below DIR, not only beside themselves
    #[arg(long, value_name = "DIR")]
    base_dir: Option<PathBuf>,
    /// Let images name any file of this host; only for images you trust
    #[arg(long, conflicts_with = "base_dir")]
    allow_any_path: bool,
    /// Read an image though a running machine writes it
    #[arg(short = 'U', long = "force-share")]
    force_share: bool,
}

impl Reach {
    /// Opens a path or URI.
    pub(super) fn open(
        &self,
        location: &OsStr,
        format: Option<Format>,
        snapshot: Option<String>,
    ) -> Result<Chain> {
        let path = Path::new(location);
        let is_uri = is_uri(location);
        if !is_uri && !self.force_share {
            in_use::refuse_written(path)?;
        }
        let files = match &self.base_dir {
            Some(base) => Some(Files::below(base)),
            None if self.allow_any_path => Some(Files::anywhere(path)),
            None => None,
        };
        Ok(open_chain(
            location,
            &OpenOptions {
                format,
                files,
                snapshot,
            },
        )?)
    }
}

/// A path, or the URI of an NBD export.
pub(super) type Location = OsString;

/// As it is shown.
pub(super) fn shown(location: &OsStr) -> String {
    location.to_string_lossy().into_owned()
}
