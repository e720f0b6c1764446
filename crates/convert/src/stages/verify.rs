//! Manifest hashes, computed beside the other stages: the file is read once, the page cache serves both readers.

use std::sync::Mutex;
use std::thread;

use source::Verification;
use types::CancelToken;

use crate::{Error, Events, Result, Stage};

/// What [`beside`] gives to the stages to wait for.
pub(crate) struct Verified<'a> {
    running: Mutex<Option<thread::ScopedJoinHandle<'a, Result<()>>>>,
    events: &'a dyn Events,
    any: bool,
}

impl Verified<'_> {
    /// Waits until every hash is known; a mismatch is the error.
    pub(crate) fn wait(&self) -> Result<()> {
        let Some(handle) = self
            .running
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .take()
        else {
            return Ok(());
        };
        if self.any && !handle.is_finished() {
            self.events
                .stage(Stage::Verify, "waiting for the manifest's hashes");
        }
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs `stages` with the hashes computed beside it. A wrong hash stops the stages at once and is the error,
/// whatever they failed with because of it.
pub(crate) fn beside<T>(
    verifications: Vec<Verification>,
    events: &dyn Events,
    cancel: &CancelToken,
    stages: impl FnOnce(&Verified<'_>) -> Result<T>,
) -> Result<T> {
    let stop = CancelToken::new();
    thread::scope(|scope| {
        let any = !verifications.is_empty();
        let stop_hashing = stop.clone();
        let handle = scope.spawn(move || {
            for verification in verifications {
                tracing::debug!("hashing {}", verification.label());
                if let Err(error) = verification.run(&stop_hashing, &|_| {}) {
                    if !stop_hashing.is_cancelled() {
                        cancel.cancel();
                    }
                    return Err(Error::from(error));
                }
            }
            Ok(())
        });
        let verified = Verified {
            running: Mutex::new(Some(handle)),
            events,
            any,
        };
        let result = stages(&verified);
        match result {
            Ok(value) => verified.wait().map(|()| value),
            Err(error) => {
                // Hashing that failed by itself is the cause; hashing that is still going on is of no use any more.
                let hashing = verified
                    .running
                    .lock()
                    .unwrap_or_else(|e| e.into_inner())
                    .take();
                let failed_first = hashing
                    .as_ref()
                    .is_some_and(thread::ScopedJoinHandle::is_finished);
                stop.cancel();
                match hashing.map(|handle| {
                    handle
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                }) {
                    Some(Err(cause)) if failed_first => Err(cause),
                    _ => Err(error),
                }
            }
        }
    })
}
