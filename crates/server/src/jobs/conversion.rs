//! The thread of one job: its options and its remote disks go through the same stages as the command line's sources.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use convert::{DiskProgress, Events, Gate, Outcome, Stage};
use source::Opened;
use types::{CancelToken, GuestInfo};

use super::backend::Remote;
use super::{Jobs, chain};
use crate::session::DiskTransfer;
use crate::{JobId, JobState};

/// How a conversion ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The guest is in its place.
    Done,
    /// Somebody wanted it to end.
    Cancelled,
    /// One line.
    Failed(String),
}

impl Jobs {
    /// The body of a job's thread.
    pub(super) fn run_job(&self, id: JobId, remote: &Arc<dyn Remote>, cancel: &CancelToken) {
        let work = || self.convert(id, remote.as_ref(), cancel);
        let ended = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Ended::Failed("the server failed inside; its log says where".to_owned())
        });
        let transfers = catch_unwind(AssertUnwindSafe(|| (remote.disks(), remote.progress())));
        if let Ok((transfers, progress)) = transfers {
            self.store_disks(id, &transfers);
            if let Some(live) = self.lock().live.get_mut(&id) {
                live.row.progress = progress;
            }
        }
        self.run_ended(id, ended);
    }

    fn convert(&self, id: JobId, remote: &dyn Remote, cancel: &CancelToken) -> Ended {
        let events = JobEvents { jobs: self, id };
        let converted = self
            .prepare(id, remote)
            .map_err(convert::Error::Refused)
            .and_then(|(conversion, opened)| {
                let gate = JobGate {
                    jobs: self,
                    id,
                    remote,
                };
                self.backend
                    .convert(&conversion, opened, &gate, &events, cancel)
            });
        match converted {
            Ok(outcome) => match self.note_outcome(id, &outcome) {
                Ok(()) => Ended::Done,
                Err(error) => Ended::Failed(format!(
                    "the guest is in its place, but its record cannot be written: {}",
                    chain(&error)
                )),
            },
            Err(convert::Error::Cancelled) => Ended::Cancelled,
            Err(error) => {
                let mut text = chain(&error);
                if let Some(hint) = error.hint() {
                    text = format!("{text}; {hint}");
                }
                // The reason may well be what could not be read.
                if let (Some(bad), false) = (self.unreadable(id, remote), is_refusal(&error)) {
                    text = format!("{text}; {bad}");
                }
                Ended::Failed(text)
            }
        }
    }

    fn prepare(
        &self,
        id: JobId,
        remote: &dyn Remote,
    ) -> Result<(convert::Conversion, Opened), String> {
        let told = self.told(id).map_err(|error| chain(&error))?;
        let (row, approval, keys) = {
            let mut inner = self.lock();
            let live = inner.live.get_mut(&id).ok_or("the job is gone")?;
            self.note_options(live, &told);
            self.save(live);
            (
                live.row.clone(),
                Self::approval_options(live),
                live.keys.clone(),
            )
        };
        let merged = self.merged_options(&row, &told, approval);
        let conversion = self.conversion(&merged, &keys)?;
        let opened = Opened {
            machine: self.backend.machine(&told.inventory, &told.wish),
            disks: remote.sources(),
            verifications: Vec::new(),
            warnings: told.inventory.concerns,
        };
        Ok((conversion, opened))
    }

    fn note_outcome(&self, id: JobId, outcome: &Outcome) -> crate::Result<()> {
        let mut placed: Vec<String> = Vec::new();
        if let Some(domain) = &outcome.placed.domain {
            placed.push(format!("domain {domain}"));
        }
        let files = outcome.placed.files.iter();
        placed.extend(files.map(|file| file.display().to_string()));
        for note in &outcome.placed.notes {
            self.log(id, "note", note);
        }
        let guest = guest_text(&outcome.guest);
        self.store
            .save_result(id, &outcome.changes, &placed, &guest)
    }

    /// Count, disk and first place of what could not be read.
    fn unreadable(&self, id: JobId, remote: &dyn Remote) -> Option<String> {
        let transfers = remote.disks();
        let bytes: u64 = transfers
            .iter()
            .flat_map(|disk| &disk.bad)
            .map(|range| range.end.saturating_sub(range.start))
            .sum();
        let first = |(place, disk): (usize, &DiskTransfer)| {
            disk.bad.first().map(|range| (place, range.start))
        };
        let (place, offset) = transfers.iter().enumerate().find_map(first)?;
        let told = self.told(id).unwrap_or_default();
        let name = told
            .wish
            .disks
            .get(place)
            .and_then(|place| told.inventory.disks.get(*place as usize))
            .map_or_else(|| format!("disk {place}"), |disk| disk.name.clone());
        Some(format!(
            "{bytes} bytes of the machine's disks could not be read, the first on {name} at {offset:#x}"
        ))
    }
}

fn is_refusal(error: &convert::Error) -> bool {
    matches!(error, convert::Error::Refused(_))
}

fn guest_text(guest: &GuestInfo) -> String {
    let mut text = format!("{} on {}", guest.product_name, guest.root);
    if let Some(hostname) = guest.hostname.as_deref().filter(|name| !name.is_empty()) {
        text = format!("{text}, host name {hostname}");
    }
    super::safe_text(&text, 300)
}

/// Stages and lines of a conversion, as the job's.
struct JobEvents<'a> {
    jobs: &'a Jobs,
    id: JobId,
}

impl JobEvents<'_> {
    fn show(&self, stage: Option<JobState>, text: &str) {
        let mut inner = self.jobs.lock();
        if let Some(live) = inner.live.get_mut(&self.id) {
            if let Some(run) = &mut live.run {
                run.stage = stage.unwrap_or(run.stage);
                run.text = super::safe_text(text, 300);
            }
            self.jobs.settle(live);
        }
    }
}

impl Events for JobEvents<'_> {
    fn stage(&self, stage: Stage, text: &str) {
        let state = match stage {
            Stage::Open | Stage::Check | Stage::Launch | Stage::Inspect => JobState::Inspecting,
            Stage::Convert | Stage::Trim => JobState::Converting,
            Stage::Copy | Stage::Verify | Stage::Finish => JobState::Copying,
        };
        self.show(Some(state), text);
        self.jobs.log(self.id, "info", text);
    }

    fn step(&self, name: &str) {
        self.show(None, &format!("converting: {name}"));
        self.jobs.log(self.id, "info", &format!("step {name}"));
    }

    fn appliance(&self, hello_ms: u64, accel: &str) {
        let line = format!("the appliance answered after {hello_ms} ms ({accel})");
        self.jobs.log(self.id, "info", &line);
    }

    fn disk(&self, _: DiskProgress) {
        // The remote disks know better how far the job is: the copy waits for them.
    }

    fn note(&self, text: &str) {
        self.jobs.log(self.id, "note", text);
    }

    fn warning(&self, text: &str) {
        self.jobs.log(self.id, "warning", text);
    }

    fn log(&self, line: &str) {
        self.jobs.log(self.id, "info", line);
    }

    fn choose_root(&self, _: &[GuestInfo]) -> Option<usize> {
        None
    }
}

/// May the conversion be called a success?
struct JobGate<'a> {
    jobs: &'a Jobs,
    id: JobId,
    remote: &'a dyn Remote,
}

impl Gate for JobGate<'_> {
    fn before_finish(&self, events: &dyn Events, cancel: &CancelToken) -> convert::Result<()> {
        let unreadable = self.jobs.unreadable(self.id, self.remote);
        if let Some(bad) = unreadable {
            if !self.jobs.config.allow_bad_sectors {
                return Err(convert::Error::Refused(format!(
                    "{bad}; retry the job, or start the server with --allow-bad-sectors to have zeroes in their place"
                )));
            }
            events.warning(&format!("{bad}; they are zero in the guest"));
        }
        events.stage(Stage::Verify, "proving that both sides have the same bytes");
        let proof = self
            .remote
            .prove(self.jobs.config.reread_proof, cancel)
            .map_err(convert::Error::from)?;
        let covered: u64 = proof.iter().map(|range| range.covered_bytes).sum();
        events.note(&format!(
            "{covered} bytes in {} stretches have the same hash on both sides",
            proof.len()
        ));
        self.jobs
            .store
            .save_proof(self.id, &proof)
            .map_err(|error| convert::Error::Refused(chain(&error)))
    }
}
