//! Manifest hashes, computed beside the other stages: the file is read once, the page cache serves both readers.

use std::sync::{Mutex, MutexGuard, PoisonError};
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
        let busy = lock(&self.running)
            .as_ref()
            .is_some_and(|hashing| !hashing.is_finished());
        if self.any && busy {
            self.events
                .stage(Stage::Verify, "waiting for the manifest's hashes");
        }
        self.join()
    }

    fn join(&self) -> Result<()> {
        let hashing = lock(&self.running).take();
        hashing.map_or(Ok(()), |hashing| {
            hashing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
                // What hashing found is the cause; hashing that is still going on is of no use any more.
                stop.cancel();
                match verified.join() {
                    Ok(()) | Err(Error::Cancelled) => Err(error),
                    Err(cause) => Err(cause),
                }
            }
        }
    })
}
