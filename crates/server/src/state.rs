//! The state folder: one server at a time, nobody else may look into it.
//!
//! ```text
//! STATE/              0700
//!   lock              held as long as a server runs
//!   v2v.db            SQLite, with its -wal and -shm
//!   pki/              authority and server certificate
//!   spool/JOB/        what was received of a job's disks
//!   admin.sock        administration
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::{Error, Result};

/// Only the owner may enter.
pub(crate) const FOLDER_MODE: u32 = 0o700;
/// Only the owner may read.
pub(crate) const FILE_MODE: u32 = 0o600;

/// The state folder, locked.
#[derive(Debug)]
pub(crate) struct State {
    root: PathBuf,
    _lock: File,
}

impl State {
    /// Makes the folder where it is missing, and locks it.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        make_folder(root)?;
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed("opening", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::InUse {
                    path: root.to_owned(),
                });
            }
            Err(error) => return Err(failed("locking", &path)(error.into())),
        }
        let state = Self {
            root: root.to_owned(),
            _lock: lock,
        };
        make_folder(&state.spools())?;
        Ok(state)
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("v2v.db")
    }

    /// The authority's folder.
    pub(crate) fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Folder of the spools.
    pub(crate) fn spools(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// The key to the web page.
    pub(crate) fn web_key(&self) -> PathBuf {
        self.root.join("web.key")
    }

    /// Where `v2v jobs` and `v2v token` find the server.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join(crate::admin::SOCKET)
    }
}

/// Makes a folder that only its owner may enter, or makes an existing one so.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(failed("making", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))
        .map_err(failed("setting the mode of", path))
}

/// Writes a new file that only its owner may read, down to the disk.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(FILE_MODE)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(failed("writing", path))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("syncing", path))
}

/// An error of this file.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State {
        doing,
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_cannot_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        let first = State::open(&root).unwrap();
        let error = State::open(&root).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(!error.to_string().contains('\n'));
        drop(first);
        State::open(&root).unwrap();
        let mode = std::fs::metadata(&root).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FOLDER_MODE);
        let mode = std::fs::metadata(root.join("lock")).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, FILE_MODE);
    }
}
