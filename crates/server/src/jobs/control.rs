//! What an administrator does to jobs and tokens.

use std::sync::Arc;

use tokio::sync::watch;

use super::backend::Remote;
use super::hello::retire;
use super::options::{self, Opt};
use super::{Intent, Jobs, Live, chain};
use crate::store::JobRow;
use crate::{
    Approval, Control, ControlError, CreatedToken, JobDetail, JobId, JobState, JobView, LogLine,
    NewToken, TokenView,
};

/// Options and keys of one approval.
const MAX_APPROVAL_PARTS: usize = 256;

type Result<T> = std::result::Result<T, ControlError>;

impl Jobs {
    fn row(&self, id: JobId) -> Result<JobRow> {
        self.store
            .job(id)
            .map_err(internal)?
            .ok_or_else(|| ControlError::NotFound(format!("job {id}")))
    }

    /// Gives a job up, whatever it does.
    pub(super) fn give_up(&self, id: JobId, why: &str) -> Result<()> {
        self.stop_run(id, Intent::End(JobState::Cancelled, why.to_owned()));
        let mut inner = self.lock();
        let Some(live) = inner.live.get_mut(&id) else {
            drop(inner);
            let state = self.row(id)?.state.word();
            return Err(has_ended(id, state));
        };
        if live.has_ended() {
            return Err(has_ended(id, live.row.state.word()));
        }
        if live.run.is_none() {
            live.stopped = live.remote.is_some();
            self.end(live, JobState::Cancelled, why);
            let remote = live.remote.clone();
            drop(inner);
            if let Some(remote) = remote {
                remote.stop();
            }
        }
        Ok(())
    }

    /// Options and keys are taken over; the job may run.
    fn say_yes(&self, live: &mut Live, approval: Approval) -> Result<()> {
        let id = live.row.id;
        let parts = approval.options.len() + approval.keys.len();
        if parts > MAX_APPROVAL_PARTS {
            return Err(ControlError::Refused(format!(
                "expected at most {MAX_APPROVAL_PARTS} options and keys, found {parts}"
            )));
        }
        if let Some((id, _)) = approval.keys.iter().find(|(id, _)| id.is_empty()) {
            return Err(ControlError::Refused(format!(
                "expected a device name, a UUID, or all for a key, found {id:?}"
            )));
        }
        let given = options::parse(&approval.options);
        let merged = options::merge(&[Self::approval_options(live), given]);
        let (secret, open): (Vec<Opt>, Vec<Opt>) = merged.iter().cloned().partition(Opt::is_secret);
        let keys = if approval.keys.is_empty() {
            live.keys.clone()
        } else {
            approval.keys
        };
        let told = self.told(id).map_err(internal)?;
        let all = self.merged_options(&live.row, &told, merged);
        self.conversion(&all, &keys)
            .map_err(ControlError::Refused)?;
        live.keys = keys;
        live.secret_options = secret;
        live.row.options = options::words(&open);
        live.row.had_keys = live.has_keys();
        live.row.approved = true;
        self.note_options(live, &told);
        Ok(())
    }

    /// An ended job is to run again, over what it has received.
    #[must_use]
    fn begin_again(&self, live: &mut Live) -> Option<Arc<dyn Remote>> {
        live.row.ended_ms = 0;
        live.row.approved &= live.has_keys() || !live.row.had_keys;
        let unreadable = live.row.progress.bad_bytes > 0;
        live.row.retry_bad = unreadable;
        live.waits.clear();
        let retired = if live.stopped || unreadable {
            // Read errors are forgotten when the spool is opened anew; the agent dials again for that.
            retire(live)
        } else {
            None
        };
        self.log(live.row.id, "info", "tried again");
        let (state, text) = live.shown();
        live.row.state = state;
        live.row.text = text;
        self.save(live);
        self.settle(live);
        retired
    }

    /// The job, back in memory if it had left it; only one that can be tried again.
    fn retriable<'a>(&self, inner: &'a mut super::Inner, id: JobId) -> Result<&'a mut Live> {
        let row = match inner.live.get(&id) {
            Some(live) => live.row.clone(),
            None => self.row(id)?,
        };
        if !matches!(row.state, JobState::Failed | JobState::Cancelled) {
            return Err(ControlError::Refused(format!(
                "job {id} is {}: only a failed or cancelled one can be tried again",
                row.state.word()
            )));
        }
        let newest = self
            .store
            .jobs_of_machine(&row.machine_id)
            .map_err(internal)?;
        if let Some(newer) = newest.iter().find(|other| other.id > id) {
            return Err(ControlError::Refused(format!(
                "job {id} was followed by job {} of the same machine",
                newer.id
            )));
        }
        Ok(inner.live.entry(id).or_insert_with(|| Live::new(row)))
    }
}

impl Control for Jobs {
    fn jobs(&self) -> Result<Vec<JobView>> {
        let rows = self.store.jobs().map_err(internal)?;
        let inner = self.lock();
        let view = |row: &JobRow| match inner.live.get(&row.id) {
            Some(live) => super::view::view(&live.row, Some(live)),
            None => super::view::view(row, None),
        };
        Ok(rows.iter().map(view).collect())
    }

    fn job(&self, id: JobId) -> Result<JobDetail> {
        let row = self.row(id)?;
        let documents = self
            .store
            .documents(id)
            .map_err(internal)?
            .unwrap_or_default();
        let (job, remote) = {
            let inner = self.lock();
            match inner.live.get(&id) {
                Some(live) => (
                    super::view::view(&live.row, Some(live)),
                    live.remote.clone().filter(|_| !live.has_ended()),
                ),
                None => (super::view::view(&row, None), None),
            }
        };
        let transfers = remote.map(|remote| remote.disks());
        Ok(self.detail(job, documents, transfers.as_deref()))
    }

    fn approve(&self, id: JobId, approval: Approval) -> Result<()> {
        let said_more = !approval.options.is_empty() || !approval.keys.is_empty();
        let mut retired = None;
        let mut inner = self.lock();
        let unfinished = inner.live.get(&id).is_some_and(|live| !live.has_ended());
        if unfinished {
            let Some(live) = inner.live.get_mut(&id) else {
                return Err(ControlError::NotFound(format!("job {id}")));
            };
            if live.row.approved {
                return Err(ControlError::Refused(format!(
                    "job {id} is {}: it does not wait for approval",
                    live.row.state.word()
                )));
            }
            self.say_yes(live, approval)?;
            self.log(id, "info", "approved");
            self.save(live);
            self.settle(live);
        } else {
            // A job that failed for want of a key, say.
            if !said_more {
                let state = self.row(id)?.state.word();
                return Err(has_ended(id, state));
            }
            let live = self.retriable(&mut inner, id)?;
            self.say_yes(live, approval)?;
            retired = self.begin_again(live);
        }
        drop(inner);
        if let Some(remote) = retired {
            remote.stop();
        }
        self.wake.notify_all();
        Ok(())
    }

    fn cancel(&self, id: JobId) -> Result<()> {
        self.give_up(id, "given up by an administrator")
    }

    fn retry(&self, id: JobId) -> Result<()> {
        let mut inner = self.lock();
        let live = self.retriable(&mut inner, id)?;
        let retired = self.begin_again(live);
        drop(inner);
        if let Some(remote) = retired {
            remote.stop();
        }
        self.wake.notify_all();
        Ok(())
    }

    fn logs(&self, id: JobId, after: u64, limit: usize) -> Result<Vec<LogLine>> {
        self.row(id)?;
        self.store.logs(id, after, limit).map_err(internal)
    }

    fn tokens(&self) -> Result<Vec<TokenView>> {
        self.store.tokens().map_err(internal)
    }

    fn create_token(&self, new: NewToken) -> Result<CreatedToken> {
        crate::tokens::create(
            &self.store,
            self.authority.fingerprint(),
            &self.addresses,
            &new,
        )
    }

    fn revoke_token(&self, id: u64) -> Result<()> {
        if self.store.revoke_token(id).map_err(internal)? {
            Ok(())
        } else {
            Err(ControlError::NotFound(format!("token {id}")))
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn has_ended(id: JobId, state: &str) -> ControlError {
    ControlError::Refused(format!("job {id} has ended: {state}"))
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn internal(error: crate::Error) -> ControlError {
    ControlError::Internal(chain(&error))
}
