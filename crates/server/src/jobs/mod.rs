//! The jobs: one for each machine that is converted.
//!
//! ```text
//!  hello ──> admit (hello.rs) ──> Live: row, remote disks, keys, status watch
//!                                   │  tick, 4 times a second (schedule.rs): who is connected, how far, who may start
//!                                   v
//!                                 one thread a job (conversion.rs): options -> Conversion, remote -> Opened, the stages
//!                                   │  events -> log, stage; gate -> unreadable sectors, proof
//!                                   v
//!                                 ended (schedule.rs): result stored, spool kept or removed
//! ```
//!
//! What survives is in the store; what is here is what the present connections and threads need. The state that is shown
//! follows from a few facts, in one place: [`Live::shown`]. Locks: `admitting` before `inner` before the store's;
//! remote disks and conversions are never called with `inner` held.

mod backend;
mod control;
mod conversion;
mod hello;
mod naming;
mod options;
mod schedule;
mod setup;
mod spools;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use backend::Remote;
pub(crate) use backend::{Backend, Production};
pub(crate) use naming::safe_text;
use options::Opt;
use tokio::sync::watch;
use types::CancelToken;
use wire::session::JobStatus;

use crate::pki::Authority;
use crate::store::{JobRow, Store, now_ms};
use crate::tokens::Addresses;
use crate::{JobId, JobState, Result, ServerConfig};

const NEEDS_KEY: &str =
    "the server was restarted: the key of the encrypted volume has to be given again";

/// All jobs of a server.
pub(crate) struct Jobs {
    config: ServerConfig,
    store: Arc<Store>,
    authority: Arc<Authority>,
    addresses: Addresses,
    backend: Arc<dyn Backend>,
    spools: PathBuf,
    /// One hello at a time.
    admitting: Mutex<()>,
    inner: Mutex<Inner>,
    /// The scheduler has something to do, or a job's thread has ended.
    wake: Condvar,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    live: BTreeMap<JobId, Live>,
    closing: bool,
}

/// A job that has not ended, or whose agent still looks at its end.
struct Live {
    row: JobRow,
    remote: Option<Arc<dyn Remote>>,
    /// The remote disks were stopped and serve no more.
    stopped: bool,
    connected: bool,
    hello_at: Option<Instant>,
    gone_at: Instant,
    saved_at: Instant,
    /// Never written anywhere.
    keys: Vec<(String, Vec<u8>)>,
    secret_options: Vec<Opt>,
    status: watch::Sender<JobStatus>,
    run: Option<Run>,
    /// Why it waits.
    waits: String,
}

/// A thread that converts.
struct Run {
    cancel: CancelToken,
    stage: JobState,
    text: String,
    intent: Option<Intent>,
}

/// Why a running conversion was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Intent {
    /// It ends so.
    End(JobState, String),
    /// It goes on at the next start of the server.
    Shutdown,
    /// It begins again over other remote disks.
    Again,
}

impl Live {
    fn new(row: JobRow) -> Self {
        let now = Instant::now();
        Self {
            row,
            remote: None,
            stopped: false,
            connected: false,
            hello_at: None,
            gone_at: now,
            saved_at: now,
            keys: Vec::new(),
            secret_options: Vec::new(),
            status: watch::Sender::new(JobStatus::default()),
            run: None,
            waits: String::new(),
        }
    }

    fn has_ended(&self) -> bool {
        self.row.ended_ms != 0
    }

    fn has_keys(&self) -> bool {
        !self.keys.is_empty() || !self.secret_options.is_empty()
    }

    /// State and text as they follow from the facts.
    fn shown(&self) -> (JobState, String) {
        if self.has_ended() {
            return (self.row.state, self.row.text.clone());
        }
        if !self.row.approved {
            let text = if self.row.had_keys {
                NEEDS_KEY
            } else {
                "waits for an administrator's approval"
            };
            return (JobState::WaitingForApproval, text.to_owned());
        }
        let away = "the agent is away; the job goes on when it is back";
        match &self.run {
            Some(run) if run.intent.is_some() => (run.stage, "stopping".to_owned()),
            _ if !self.connected => (JobState::WaitingForAgent, away.to_owned()),
            Some(run) => (run.stage, run.text.clone()),
            None => (JobState::Queued, self.waits.clone()),
        }
    }
}

impl Jobs {
    /// Takes up what an earlier server left unfinished.
    pub(crate) fn open(
        config: ServerConfig,
        store: Arc<Store>,
        authority: Arc<Authority>,
        addresses: Addresses,
        backend: Arc<dyn Backend>,
        spools: PathBuf,
    ) -> Result<Arc<Self>> {
        let jobs = Self {
            config,
            store,
            authority,
            addresses,
            backend,
            spools,
            admitting: Mutex::new(()),
            inner: Mutex::new(Inner::default()),
            wake: Condvar::new(),
            changes: watch::Sender::new(0),
        };
        for mut row in jobs.store.unfinished_jobs()? {
            if row.approved && row.had_keys {
                row.approved = false;
                jobs.log(row.id, "warning", NEEDS_KEY);
            }
            let mut live = Live::new(row);
            jobs.settle(&mut live);
            // What was approved is written even where the state looks the same.
            jobs.save(&mut live);
            jobs.lock().live.insert(live.row.id, live);
        }
        jobs.remove_stray_spools()?;
        Ok(Arc::new(jobs))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job changed: whoever watches looks again.
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Brings row, store and watchers in line with the facts.
    fn settle(&self, live: &mut Live) {
        let (state, text) = live.shown();
        if (state, &text) != (live.row.state, &live.row.text) {
            if state != live.row.state {
                tracing::info!(job = live.row.id.0, state = state.word(), text, "job");
            }
            live.row.state = state;
            live.row.text = text;
            self.save(live);
        }
        let status = view::status(live);
        let modified = live.status.send_if_modified(|old| {
            let differs = *old != status;
            *old = status;
            differs
        });
        if modified {
            self.changed();
        }
    }

    fn save(&self, live: &mut Live) {
        live.saved_at = Instant::now();
        if let Err(error) = self.store.save_job(&live.row) {
            tracing::error!(
                job = live.row.id.0,
                error = chain(&error),
                "a job cannot be written"
            );
        }
    }

    /// The job is over.
    fn end(&self, live: &mut Live, state: JobState, text: impl Into<String>) {
        live.run = None;
        live.row.ended_ms = now_ms().max(1);
        live.row.state = state;
        live.row.text = text.into();
        live.row.progress.rate_bytes = 0;
        live.row.progress.eta_seconds = 0;
        let (level, line) = match state {
            JobState::Failed => ("error", format!("failed: {}", live.row.text)),
            state if live.row.text.is_empty() => ("info", state.word().to_owned()),
            state => ("info", format!("{}: {}", state.word(), live.row.text)),
        };
        self.log(live.row.id, level, &line);
        tracing::info!(
            job = live.row.id.0,
            state = state.word(),
            text = live.row.text,
            "job ended"
        );
        self.save(live);
        self.settle(live);
        self.wake.notify_all();
    }

    /// Adds a line to a job's log.
    fn log(&self, id: JobId, level: &str, text: &str) {
        if let Err(error) = self.store.append_log(id, level, text) {
            tracing::error!(
                job = id.0,
                error = chain(&error),
                "a log line cannot be written"
            );
        }
        self.changed();
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line.replace('\n', " ")
}
