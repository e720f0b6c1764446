//! A pool on another host: the disks are made here and uploaded through libvirt.
//!
//! A volume gets its name when it is created, because libvirt cannot rename one: a kill -9 during the upload is
//! the one case in which a half-made volume stays behind.

use std::path::{Path, PathBuf};

use image::Preallocation;

use crate::libvirt::pool::Pool;
use crate::libvirt::virsh::Virsh;
use crate::{Error, ErrorKind, Result};

/// Refuses names that volumes of the pool have.
pub(crate) fn refuse_taken_volumes(virsh: &Virsh, pool: &Pool, names: &[String]) -> Result<()> {
    for name in names {
        // Success means that there is one. If it failed for another reason, creating the volume will too.
        if virsh.run(&["vol-path", &pool_option(pool), &format!("--vol={name}")]).is_ok() {
            return Err(Error::new(
                ErrorKind::NameTaken,
                format!("the pool `{}` at {} has a volume `{name}` already", pool.name, virsh.label()),
            )
            .with_hint("give the result another name with -on NAME, or delete the volume with virsh vol-delete"));
        }
    }
    Ok(())
}

fn pool_option(pool: &Pool) -> String {
    format!("--pool={}", pool.name)
}

/// Volumes that were created, and can be deleted again.
#[derive(Debug)]
pub(crate) struct Uploads<'a> {
    virsh: &'a Virsh,
    pool: &'a Pool,
    names: Vec<String>,
}

impl<'a> Uploads<'a> {
    pub(crate) fn new(virsh: &'a Virsh, pool: &'a Pool) -> Self {
        Self { virsh, pool, names: Vec::new() }
    }

    /// Creates a volume of the length of `file`, fills it, and gives its path on the remote host.
    pub(crate) fn upload(&mut self, name: &str, file: &Path, preallocation: Preallocation) -> Result<PathBuf> {
        let len = std::fs::metadata(file).map_err(|e| Error::io_at("reading the status of", file, e))?.len();
        let allocation = match preallocation {
            Preallocation::Sparse => 0,
            Preallocation::Falloc => len,
        };
        // Raw, whatever is inside: the bytes of the file are what is uploaded. libvirt looks inside when it
        // refreshes the pool.
        self.virsh.run(&[
            "vol-create-as",
            &pool_option(self.pool),
            &format!("--name={name}"),
            &format!("--capacity={len}"),
            &format!("--allocation={allocation}"),
            "--format=raw",
        ])?;
        self.names.push(name.to_owned());
        let (pool, vol, from) = (pool_option(self.pool), format!("--vol={name}"), format!("--file={}", utf8(file)?));
        let mut args = vec!["vol-upload", &pool, &vol, &from];
        if preallocation == Preallocation::Sparse {
            args.push("--sparse");
        }
        self.virsh.run(&args)?;
        let path = self.virsh.run(&["vol-path", &pool, &vol])?;
        Ok(PathBuf::from(path.trim_end()))
    }

    /// Deletes what was created and gives the error that led to it, or one that says that this failed too.
    pub(crate) fn take_back(self, error: Error) -> Error {
        let mut stays = Vec::new();
        for name in self.names.iter().rev() {
            if let Err(undo) = self.virsh.run(&["vol-delete", &pool_option(self.pool), &format!("--vol={name}")]) {
                tracing::warn!(%undo, volume = %name, "cannot delete");
                stays.push(name.as_str());
            }
        }
        if stays.is_empty() {
            return error;
        }
        Error::new(
            ErrorKind::UndoFailed,
            format!("after a failure, deleting {} from the pool `{}` failed too", stays.join(", "), self.pool.name),
        )
        .caused_by(error)
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("expected a path of UTF-8 text, found {}", path.display()))
    })
}
