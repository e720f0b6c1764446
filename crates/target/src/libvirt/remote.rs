//! A pool on another host: the disks are made here and uploaded through libvirt.
//!
//! A volume gets its name when it is created, because libvirt cannot rename one: a kill -9 during the upload is
//! the one case in which a half-made volume stays behind.

use std::fs;
use std::path::PathBuf;

use image::Preallocation;

use crate::domain::xml::element;
use crate::libvirt::pool::Pool;
use crate::libvirt::virsh::Virsh;
use crate::stage::Stage;
use crate::{Error, ErrorKind, Result};

/// Refuses names that volumes of the pool have.
pub(crate) fn refuse_taken_volumes(virsh: &Virsh, pool: &Pool, names: &[String]) -> Result<()> {
    for name in names {
        // Success means that there is one. If it failed for another reason, creating the volume will too.
        if virsh
            .run(&["vol-path", &pool_option(pool), &format!("--vol={name}")])
            .is_ok()
        {
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
        Self {
            virsh,
            pool,
            names: Vec::new(),
        }
    }

    /// Creates a volume of the length of the stage's file `name`, fills it, and gives its path on the remote host.
    pub(crate) fn upload(&mut self, stage: &Stage, name: &str) -> Result<PathBuf> {
        let (file, preallocation) = (stage.waiting(name), stage.options.preallocation);
        let meta =
            fs::metadata(&file).map_err(|e| Error::io_at("reading the status of", &file, e))?;
        let allocation = match preallocation {
            Preallocation::Sparse => 0,
            Preallocation::Falloc => meta.len(),
        };
        // Not by vol-create-as, which pastes the name into XML as it is (seen in libvirt 9.0).
        let description = format!("{name}.volume");
        stage.write_file(&description, &volume(name, meta.len(), allocation)?, 0o600)?;
        let path = stage.waiting(&description);
        let pool = pool_option(self.pool);
        self.virsh
            .run(&["vol-create", &pool, &format!("--file={}", path.display())])?;
        self.names.push(name.to_owned());
        let (vol, from) = (
            format!("--vol={name}"),
            format!("--file={}", file.display()),
        );
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
            if let Err(undo) = self.virsh.run(&[
                "vol-delete",
                &pool_option(self.pool),
                &format!("--vol={name}"),
            ]) {
                tracing::warn!(%undo, volume = %name, "cannot delete");
                stays.push(name.as_str());
            }
        }
        if stays.is_empty() {
            return error;
        }
        Error::new(
            ErrorKind::UndoFailed,
            format!(
                "after a failure, deleting {} from the pool `{}` failed too",
                stays.join(", "),
                self.pool.name
            ),
        )
        .caused_by(error)
    }
}

/// `<volume>` (<https://libvirt.org/formatstorage.html>). Raw, whatever is inside: the bytes of the file are what is
/// uploaded. libvirt looks inside when it refreshes the pool.
fn volume(name: &str, capacity: u64, allocation: u64) -> Result<String> {
    let bytes = |tag, count: u64| element(tag).attr("unit", "bytes").text(count.to_string());
    element("volume")
        .child(element("name").text(name))
        .child(bytes("capacity", capacity))
        .child(bytes("allocation", allocation))
        .child(element("target").child(element("format").attr("type", "raw")))
        .document()
}
