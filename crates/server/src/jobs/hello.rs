//! An agent says hello: which job is its?
//!
//! | newest job of the machine | its disks | |
//! |---|---|---|
//! | none, or ended | | a new job |
//! | ended, and this agent brought it | | shown again; it can be tried again |
//! | unfinished | the same | goes on |
//! | unfinished | the same, numbered otherwise | begins its stages again over the same spool |
//! | unfinished | others | fails, and a new job is made |

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use prost::Message;
use tokio::sync::watch;
use tonic::Status;
use wire::P2V_PROTOCOL;
use wire::inventory::{Disk, Inventory};
use wire::session::{Hello, JobStatus, LogLine, UserAction, Wish};

use super::backend::{Remote, SpoolPlan};
use super::naming::machine_line;
use super::setup::Told;
use super::{Intent, Jobs, Live, chain, safe_text};
use crate::session::{Admitted, AgentId, Agents};
use crate::store::{AgentRow, JobRow, NewJob};
use crate::{Control, ControlError, JobId, JobState};

/// Bytes of `Hello.session`.
const SESSION_LEN: usize = 16;
/// Disks of one machine; virtio letters and memory end somewhere.
const MAX_DISKS: usize = 256;
/// Jobs that one certificate may bring: a machine whose disks are changed a few times while its agent runs.
const MAX_JOBS_OF_AGENT: u64 = 16;
/// Characters of a line of the agent's log.
const MAX_LOG_TEXT: usize = 2000;

/// As [`Admitted`], before the seam.
pub(super) struct Admission {
    pub(super) job: JobId,
    pub(super) remote: Arc<dyn Remote>,
    pub(super) resumed: bool,
    pub(super) status: watch::Receiver<JobStatus>,
}

/// How the disks of a hello compare with those of an unfinished job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disks {
    Same,
    Renumbered,
    Others,
}

/// A hello that was checked.
struct Caller<'a> {
    agent: AgentRow,
    session: &'a [u8],
    address: String,
    told: Told,
}

impl Jobs {
    /// Finds or makes the job of an agent.
    pub(super) fn admit(
        &self,
        agent: &AgentId,
        from: Option<SocketAddr>,
        hello: &Hello,
    ) -> Result<Admission, Status> {
        let _one_at_a_time = self
            .admitting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if self.lock().closing {
            return Err(Status::unavailable("the server is stopping"));
        }
        let agent = self
            .store
            .agent_by_id(&agent.0)
            .map_err(internal)?
            .ok_or_else(|| Status::unauthenticated("the certificate was withdrawn"))?;
        let told = check(hello, &agent)?;
        let caller = Caller {
            session: &hello.session,
            address: from.map_or_else(String::new, |from| from.ip().to_canonical().to_string()),
            agent,
            told,
        };
        let newest = self
            .store
            .jobs_of_machine(&caller.agent.machine_id)
            .map_err(internal)?
            .into_iter()
            .next();
        match newest {
            Some(row) if row.ended_ms == 0 => self.go_on(&row, &caller),
            Some(row) if row.session == caller.session => self.show_again(row, &caller),
            _ => self.begin(&caller),
        }
    }

    fn go_on(&self, row: &JobRow, caller: &Caller<'_>) -> Result<Admission, Status> {
        let old = self.told(row.id).map_err(internal)?;
        match compare(&old, &caller.told) {
            Disks::Same => {}
            Disks::Renumbered => {
                self.stop_run(row.id, Intent::Again);
                let retired = match self.lock().live.get_mut(&row.id) {
                    Some(live) if live.run.is_some() => {
                        return Err(Status::unavailable(
                            "the disks are numbered otherwise than before: the job is being prepared for that",
                        ));
                    }
                    live => live.and_then(retire),
                };
                if let Some(remote) = retired {
                    remote.stop();
                }
            }
            Disks::Others => {
                let why = "the machine came back with other disks";
                self.stop_run(row.id, Intent::End(JobState::Failed, why.to_owned()));
                let mut inner = self.lock();
                if let Some(live) = inner.live.get_mut(&row.id)
                    && live.run.is_none()
                    && !live.has_ended()
                {
                    self.end(live, JobState::Failed, why);
                }
                drop(inner);
                return self.begin(caller);
            }
        }
        self.attach(row.id, caller, true)
    }

    fn show_again(&self, row: JobRow, caller: &Caller<'_>) -> Result<Admission, Status> {
        let id = row.id;
        let can_be_tried = matches!(row.state, JobState::Failed | JobState::Cancelled);
        let word = row.state.word();
        {
            let mut inner = self.lock();
            let live = inner.live.entry(id).or_insert_with(|| Live::new(row));
            if live.remote.is_none() && !can_be_tried {
                inner.live.remove(&id);
                return Err(Status::failed_precondition(format!(
                    "job {id} of this machine has ended: {word}"
                )));
            }
            self.settle(live);
        }
        self.attach(id, caller, true)
    }

    fn begin(&self, caller: &Caller<'_>) -> Result<Admission, Status> {
        let agent = &caller.agent;
        let brought = self
            .store
            .count_jobs_of_agent(&agent.id)
            .map_err(internal)?;
        if brought >= MAX_JOBS_OF_AGENT {
            return Err(Status::resource_exhausted(format!(
                "this agent has brought {brought} jobs already; enrol it again with a new token"
            )));
        }
        let machine = machine_line(&caller.told.inventory, &agent.label);
        let row = self
            .store
            .add_job(&NewJob {
                agent: &agent.id,
                session: caller.session,
                machine_id: &agent.machine_id,
                machine: &machine,
                address: &caller.address,
                approved: self.config.auto_approve || agent.auto_approve,
                inventory: &caller.told.inventory.encode_to_vec(),
                wish: &caller.told.wish.encode_to_vec(),
            })
            .map_err(internal)?;
        let id = row.id;
        self.log(
            id,
            "info",
            &format!("{machine} at {} says hello", caller.address),
        );
        self.lock().live.insert(id, Live::new(row));
        self.attach(id, caller, false)
    }

    /// Gives the job its remote disks, if it has none, and lets the agent in.
    fn attach(&self, id: JobId, caller: &Caller<'_>, resumed: bool) -> Result<Admission, Status> {
        let gone = || Status::unavailable("the job has just gone; try again");
        let (has_remote, running, row) = {
            let inner = self.lock();
            let live = inner.live.get(&id).ok_or_else(gone)?;
            (live.remote.is_some(), live.run.is_some(), live.row.clone())
        };
        let opened = if has_remote {
            None
        } else {
            Some(self.open_remote(&row, &caller.told)?)
        };
        if !running && row.ended_ms == 0 {
            let (inventory, wish) = (&caller.told.inventory, &caller.told.wish);
            self.store
                .save_inventory(id, &inventory.encode_to_vec(), &wish.encode_to_vec())
                .map_err(internal)?;
        }
        let mut inner = self.lock();
        let live = inner.live.get_mut(&id).ok_or_else(gone)?;
        if let Some(remote) = opened {
            live.remote = Some(remote);
            live.stopped = false;
        }
        live.connected = true;
        live.hello_at = Some(Instant::now());
        live.row.agent.clone_from(&caller.agent.id);
        live.row.session = caller.session.to_vec();
        live.row.address.clone_from(&caller.address);
        if live.run.is_none() && !live.has_ended() {
            live.row.machine = machine_line(&caller.told.inventory, &caller.agent.label);
            self.note_options(live, &caller.told);
        }
        self.save(live);
        self.settle(live);
        self.changed();
        let remote = live.remote.as_ref().map(Arc::clone).ok_or_else(gone)?;
        let status = live.status.subscribe();
        drop(inner);
        self.wake.notify_all();
        Ok(Admission {
            job: id,
            remote,
            resumed,
            status,
        })
    }

    fn open_remote(&self, row: &JobRow, told: &Told) -> Result<Arc<dyn Remote>, Status> {
        let base = if self.config.resync || told.wish.resync {
            self.kept_spool(row).map_err(internal)?
        } else {
            None
        };
        let plan = SpoolPlan {
            spool: self.spool_of(row.id),
            base,
            retry_bad: row.retry_bad,
        };
        self.backend
            .open(&told.inventory, &told.wish.disks, plan)
            .map_err(|error| {
                let why = chain(&error);
                self.log(
                    row.id,
                    "error",
                    &format!("its spool cannot be opened: {why}"),
                );
                Status::unavailable(format!("the server cannot keep the disks: {why}"))
            })
    }
}

/// Takes the remote disks from a job that does not run: its agent is to dial again. The caller stops them, without the
/// lock.
#[must_use]
pub(super) fn retire(live: &mut Live) -> Option<Arc<dyn Remote>> {
    live.stopped = false;
    live.connected = false;
    live.hello_at = None;
    // A session ends when the watch of its job's status closes.
    live.status = watch::Sender::new(JobStatus::default());
    live.remote.take()
}

fn check(hello: &Hello, agent: &AgentRow) -> Result<Told, Status> {
    if hello.protocol != P2V_PROTOCOL {
        return Err(Status::failed_precondition(format!(
            "this server speaks protocol {P2V_PROTOCOL}, the agent {}: use the ISO of this version of v2v",
            hello.protocol
        )));
    }
    if hello.session.len() != SESSION_LEN {
        return Err(Status::invalid_argument("expected a session of 16 bytes"));
    }
    let inventory = hello
        .inventory
        .clone()
        .ok_or_else(|| Status::invalid_argument("expected an inventory, found none"))?;
    if inventory.machine_id != agent.machine_id {
        return Err(Status::permission_denied(
            "the inventory is of another machine than the one that has enrolled",
        ));
    }
    let mut wish = hello.wish.clone().unwrap_or_default();
    check_disks(&inventory, &mut wish).map_err(Status::invalid_argument)?;
    Ok(Told { inventory, wish })
}

/// Fills in the disks where the wish names none.
fn check_disks(inventory: &Inventory, wish: &mut Wish) -> Result<(), String> {
    if inventory.disks.len() > MAX_DISKS {
        return Err(format!(
            "expected at most {MAX_DISKS} disks, found {}",
            inventory.disks.len()
        ));
    }
    if wish.disks.is_empty() {
        let chosen = (0u32..).zip(&inventory.disks);
        wish.disks = chosen
            .filter(|(_, disk)| disk.left_out.is_empty())
            .map(|(place, _)| place)
            .collect();
    }
    if wish.disks.is_empty() {
        return Err("the machine has no disk to send".to_owned());
    }
    let mut seen = BTreeSet::new();
    for place in &wish.disks {
        let Some(disk) = inventory.disks.get(*place as usize) else {
            return Err(format!(
                "disk {place} is asked for; the machine has {}",
                inventory.disks.len()
            ));
        };
        if !seen.insert(*place) {
            return Err(format!("disk {place} is asked for twice"));
        }
        let sector = u64::from(disk.logical_sector_size);
        let sound = matches!(sector, 512 | 1024 | 2048 | 4096)
            && disk.virtual_size > 0
            && disk.virtual_size % 512 == 0
            && i64::try_from(disk.virtual_size).is_ok();
        if !sound {
            return Err(format!(
                "disk {place}: {} bytes in sectors of {sector} cannot be",
                disk.virtual_size
            ));
        }
    }
    Ok(())
}

/// What stays the same of a disk whatever number it has today.
fn identity(disk: &Disk) -> (u64, u32, &str, &str, &str, &str) {
    let named = [&disk.wwid, &disk.serial]
        .into_iter()
        .any(|text| !text.is_empty());
    // One without a serial is known by its name alone.
    let name = if named { "" } else { disk.name.as_str() };
    (
        disk.virtual_size,
        disk.logical_sector_size,
        &disk.wwid,
        &disk.serial,
        &disk.model,
        name,
    )
}

fn compare(old: &Told, new: &Told) -> Disks {
    fn chosen(told: &Told) -> Vec<(u64, u32, &str, &str, &str, &str)> {
        let places = told.wish.disks.iter();
        places
            .filter_map(|place| told.inventory.disks.get(*place as usize))
            .map(identity)
            .collect()
    }
    if chosen(old) != chosen(new) {
        Disks::Others
    } else if old.wish.disks == new.wish.disks {
        Disks::Same
    } else {
        Disks::Renumbered
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn internal(error: crate::Error) -> Status {
    tracing::error!(error = chain(&error), "a hello failed");
    Status::unavailable("the server failed; its log says why")
}

impl Agents for Jobs {
    fn identify(&self, certificate: &[u8]) -> Option<AgentId> {
        let fingerprint = wire::tls::fingerprint(certificate);
        match self.store.agent_by_fingerprint(fingerprint) {
            Ok(found) => found.map(|agent| AgentId(agent.id)),
            Err(error) => {
                tracing::error!(error = chain(&error), "an agent cannot be looked up");
                None
            }
        }
    }

    fn hello(
        &self,
        agent: &AgentId,
        from: Option<SocketAddr>,
        hello: &Hello,
    ) -> Result<Admitted, Status> {
        let admission = self.admit(agent, from, hello).inspect_err(|status| {
            tracing::warn!(
                agent = agent.0,
                ?from,
                reason = status.message(),
                "hello refused"
            );
        })?;
        let machine = admission.remote.machine();
        Ok(Admitted {
            job: admission.job,
            machine: machine.ok_or_else(|| Status::internal("these disks take no session"))?,
            resumed: admission.resumed,
            status: admission.status,
        })
    }

    fn gone(&self, job: JobId) {
        let remote = {
            let inner = self.lock();
            inner.live.get(&job).and_then(|live| live.remote.clone())
        };
        // A new connection may be there already.
        let connected = remote.is_some_and(|remote| remote.is_connected());
        let mut inner = self.lock();
        if let Some(live) = inner.live.get_mut(&job) {
            live.hello_at = None;
            self.set_connected(live, connected);
            self.settle(live);
        }
        drop(inner);
        self.wake.notify_all();
    }

    fn log(&self, job: JobId, line: &LogLine) {
        let seconds = line.uptime_ms / 1000;
        let text = safe_text(&line.text, MAX_LOG_TEXT);
        Self::log(self, job, "agent", &format!("[{seconds} s] {text}"));
    }

    fn user_action(&self, job: JobId, action: UserAction) {
        let result = match action {
            UserAction::Cancel => self.give_up(job, "given up at the machine"),
            UserAction::Retry => self.retry(job),
            UserAction::Unspecified => Err(ControlError::Refused("nothing was asked for".into())),
        };
        if let Err(error) = result {
            Self::log(
                self,
                job,
                "agent",
                &format!("asked for {action:?}: {error}"),
            );
        }
    }
}
