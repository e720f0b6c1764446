//! Who is connected, how far each job is, who may start; and the end of a run.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use types::CancelToken;

use super::conversion::Ended;
use super::hello::retire;
use super::{Inner, Intent, Jobs, Live, Run, view};
use crate::{JobId, JobState};

/// Between two looks at the running jobs; no watcher is woken more often by mere progress.
const TICK: Duration = Duration::from_millis(250);
/// Progress is written to the store this often.
const SAVE_EVERY: Duration = Duration::from_secs(2);
/// Between a hello and the session's streams.
const ATTACH_TIME: Duration = Duration::from_secs(3);
/// An ended job is held this long for an agent that may dial again.
const LINGER: Duration = Duration::from_secs(120);
/// Longest wait for the conversions at the end of the server.
const STOP_TIME: Duration = Duration::from_secs(20);

impl Jobs {
    /// The scheduler's loop; ends after [`Jobs::shut_down`].
    pub(crate) fn schedule(self: &Arc<Self>) {
        loop {
            self.tick();
            let inner = self.lock();
            if inner.closing {
                return;
            }
            let waited = self.wake.wait_timeout(inner, TICK);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// One look at everything.
    pub(super) fn tick(self: &Arc<Self>) {
        let remotes: Vec<_> = self
            .lock()
            .live
            .iter()
            .filter_map(|(id, live)| live.remote.clone().map(|remote| (*id, remote)))
            .collect();
        let seen: Vec<_> = remotes
            .into_iter()
            .map(|(id, remote)| (id, remote.is_connected(), remote.progress(), remote))
            .collect();
        let no_room = self.no_room();
        let mut inner = self.lock();
        for (id, attached, progress, remote) in seen {
            let Some(live) = inner.live.get_mut(&id) else {
                continue;
            };
            if !live
                .remote
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &remote))
            {
                continue;
            }
            let fresh = live.hello_at.is_some_and(|at| at.elapsed() < ATTACH_TIME);
            self.set_connected(live, attached || fresh);
            if !live.has_ended() {
                live.row.progress = progress;
            }
            self.settle(live);
            if live.run.is_some() && live.saved_at.elapsed() >= SAVE_EVERY {
                self.save(live);
            }
        }
        let over = |live: &Live| {
            live.has_ended()
                && live.run.is_none()
                && !live.connected
                && live.gone_at.elapsed() >= LINGER
        };
        let over: Vec<JobId> = inner
            .live
            .iter()
            .filter(|(_, live)| over(live))
            .map(|(id, _)| *id)
            .collect();
        let removed: Vec<_> = over.iter().filter_map(|id| inner.live.remove(id)).collect();
        if !inner.closing {
            self.start_jobs(&mut inner, no_room.as_deref());
        }
        drop(inner);
        // Remote disks may have something to write when they go.
        drop(removed);
    }

    /// Notes whether an agent is there.
    pub(super) fn set_connected(&self, live: &mut Live, connected: bool) {
        if live.connected == connected {
            return;
        }
        live.connected = connected;
        if !connected {
            live.gone_at = Instant::now();
        }
        if !live.has_ended() {
            let line = if connected {
                "the agent is back"
            } else {
                "the agent is away"
            };
            // Counted with the agent's lines: a connection that flaps must not fill the log.
            self.log(live.row.id, "agent", line);
        }
        self.changed();
    }

    fn start_jobs(self: &Arc<Self>, inner: &mut Inner, no_room: Option<&str>) {
        let most = self.config.max_jobs.max(1);
        let mut running = inner
            .live
            .values()
            .filter(|live| live.run.is_some())
            .count();
        for live in inner.live.values_mut() {
            let ready = live.row.approved
                && live.run.is_none()
                && !live.has_ended()
                && live.connected
                && !live.stopped;
            if !ready {
                continue;
            }
            live.waits = match no_room {
                _ if running >= most => format!("waits for one of {running} running jobs to end"),
                Some(text) => text.to_owned(),
                None => String::new(),
            };
            if live.waits.is_empty() && self.start(live) {
                running += 1;
            }
            self.settle(live);
        }
    }

    fn start(self: &Arc<Self>, live: &mut Live) -> bool {
        let Some(remote) = live.remote.clone() else {
            return false;
        };
        let cancel = CancelToken::new();
        live.run = Some(Run {
            cancel: cancel.clone(),
            stage: JobState::Inspecting,
            text: "starting".to_owned(),
            intent: None,
        });
        let (jobs, id) = (Arc::clone(self), live.row.id);
        let work = move || jobs.run_job(id, &remote, &cancel);
        let spawned = std::thread::Builder::new()
            .name(format!("job-{id}"))
            .spawn(work);
        if let Err(error) = spawned {
            live.run = None;
            live.waits = format!("waits for a thread: {error}");
            return false;
        }
        true
    }

    /// Asks a running conversion to stop. The first reason counts.
    pub(super) fn stop_run(&self, id: JobId, intent: Intent) {
        let remote = {
            let mut inner = self.lock();
            let Some(live) = inner.live.get_mut(&id) else {
                return;
            };
            let Some(run) = &mut live.run else {
                return;
            };
            run.cancel.cancel();
            if run.intent.is_none() {
                run.intent = Some(intent);
            }
            live.stopped = true;
            self.settle(live);
            live.remote.clone()
        };
        if let Some(remote) = remote {
            remote.stop();
        }
    }

    /// A conversion's thread has ended.
    pub(super) fn run_ended(&self, id: JobId, ended: Ended) {
        let mut inner = self.lock();
        let Some(live) = inner.live.get_mut(&id) else {
            return;
        };
        let intent = live.run.take().and_then(|run| run.intent);
        let mut retired = None;
        match (ended, intent) {
            (Ended::Done, _) => {
                let bad = live.row.progress.bad_bytes;
                let resync = self.config.resync;
                live.row.spool_kept = resync;
                live.stopped = true;
                live.keys.clear();
                live.secret_options.clear();
                if bad == 0 {
                    self.end(live, JobState::Done, "");
                } else {
                    let text = format!("{bad} bytes could not be read and are zero in the guest");
                    self.end(live, JobState::DoneWithErrors, text);
                }
                let (row, remote) = (live.row.clone(), live.remote.clone());
                drop(inner);
                if let Some(remote) = remote {
                    remote.stop();
                }
                self.tidy_after(&row);
                inner = self.lock();
            }
            (_, Some(Intent::Shutdown)) => {}
            (_, Some(Intent::Again)) => retired = retire(live),
            (_, Some(Intent::End(state, text))) => self.end(live, state, text),
            (Ended::Cancelled, None) => {
                self.end(live, JobState::Failed, "the conversion was cancelled");
            }
            (Ended::Failed(text), None) => self.end(live, JobState::Failed, text),
        }
        drop(inner);
        if let Some(remote) = retired {
            remote.stop();
        }
        self.wake.notify_all();
        self.changed();
    }

    /// Ends every conversion in an orderly way, without marking it as failed: it goes on at the next start. Waits for
    /// the threads, but not for ever.
    pub(crate) fn shut_down(&self) {
        let running: Vec<JobId> = {
            let mut inner = self.lock();
            inner.closing = true;
            inner.live.keys().copied().collect()
        };
        self.wake.notify_all();
        for id in running {
            self.stop_run(id, Intent::Shutdown);
        }
        let end = Instant::now() + STOP_TIME;
        let mut inner = self.lock();
        while inner.live.values().any(|live| live.run.is_some()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!("a conversion did not stop in time");
                return;
            }
            let waited = self.wake.wait_timeout(inner, left.min(TICK));
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lives = inner.live.values_mut();
        let remotes: Vec<_> = lives.filter_map(|live| live.remote.take()).collect();
        drop(inner);
        for remote in remotes {
            remote.stop();
        }
    }

    /// What is known of a job's disks now goes to the store.
    pub(super) fn store_disks(&self, id: JobId, transfers: &[crate::session::DiskTransfer]) {
        let stored = self
            .told(id)
            .and_then(|told| self.store.save_disks(id, &view::disks(&told, transfers)));
        if let Err(error) = stored {
            tracing::error!(
                job = id.0,
                error = super::chain(&error),
                "disks cannot be written"
            );
        }
    }
}
