//! Folders of what was received: which is kept, which goes, and whether there is room.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Jobs, chain};
use crate::state::failed;
use crate::store::JobRow;
use crate::{JobId, Result};

impl Jobs {
    /// Folder of a job.
    pub(super) fn spool_of(&self, id: JobId) -> PathBuf {
        self.spools.join(id.to_string())
    }

    /// The newest kept spool of a machine but for this job's own.
    pub(super) fn kept_spool(&self, row: &JobRow) -> Result<Option<PathBuf>> {
        let jobs = self.store.jobs_of_machine(&row.machine_id)?;
        Ok(jobs
            .iter()
            .filter(|other| other.id != row.id && other.spool_kept)
            .map(|other| self.spool_of(other.id))
            .find(|spool| spool.exists()))
    }

    /// A job is done: its spool is kept for the next run or removed, and those of the machine's earlier jobs go.
    pub(super) fn tidy_after(&self, row: &JobRow) {
        let others = self
            .store
            .jobs_of_machine(&row.machine_id)
            .unwrap_or_default();
        for mut other in others {
            if other.id < row.id && other.ended_ms != 0 {
                remove(&self.spool_of(other.id));
                if other.spool_kept {
                    other.spool_kept = false;
                    if let Err(error) = self.store.save_job(&other) {
                        tracing::error!(error = chain(&error), "a job cannot be written");
                    }
                }
            }
        }
        if !row.spool_kept {
            remove(&self.spool_of(row.id));
        }
    }

    /// What belongs to no job, or to one that is done and is not kept, goes.
    pub(super) fn remove_stray_spools(&self) -> Result<()> {
        let wanted: BTreeSet<String> = self
            .store
            .jobs()?
            .iter()
            .filter(|row| row.spool_kept || !is_done(row))
            .map(|row| row.id.to_string())
            .collect();
        let entries = std::fs::read_dir(&self.spools).map_err(failed("reading", &self.spools))?;
        for entry in entries {
            let entry = entry.map_err(failed("reading", &self.spools))?;
            if !entry
                .file_name()
                .to_str()
                .is_some_and(|name| wanted.contains(name))
            {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Why no job may start for want of room, if so.
    pub(super) fn no_room(&self) -> Option<String> {
        let stat = rustix::fs::statvfs(&self.spools).ok()?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let reserve = self.config.reserve_bytes;
        (free < reserve).then(|| {
            format!(
                "waits for disk space: {} has {} MiB free, {} MiB must stay free",
                self.spools.display(),
                free >> 20,
                reserve >> 20
            )
        })
    }
}

fn is_done(row: &JobRow) -> bool {
    matches!(
        row.state,
        crate::JobState::Done | crate::JobState::DoneWithErrors
    )
}

fn remove(spool: &Path) {
    match std::fs::remove_dir_all(spool) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(spool = %spool.display(), %error, "a spool cannot be removed"),
    }
}
