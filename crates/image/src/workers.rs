//! Several threads that take pieces of a disk from one cursor.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::{Error, Result};

/// Threads where the caller does not say: one a processor, at least two.
fn count(threads: usize) -> usize {
    match threads {
        0 => thread::available_parallelism()
            .map_or(2, usize::from)
            .max(2),
        n => n,
    }
}

/// Runs `work` on everything that `next` hands out, in several threads, each with buffers of its own, until there is
/// no more or one fails. `next` is called by one thread at a time.
pub(crate) fn run<P: Send, B: Default>(
    threads: usize,
    next: impl FnMut() -> Result<Option<P>> + Send,
    work: impl Fn(P, &mut B) -> Result<()> + Sync,
) -> Result<()> {
    let next = Mutex::new(next);
    let stop = AtomicBool::new(false);
    let first_error: Mutex<Option<Error>> = Mutex::new(None);
    let labour = || {
        let mut buffers = B::default();
        while !stop.load(Ordering::Acquire) {
            let piece = (*next.lock().unwrap_or_else(PoisonError::into_inner))();
            let step = match piece {
                Ok(Some(piece)) => work(piece, &mut buffers),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                stop.store(true, Ordering::Release);
                first_error
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(error);
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..count(threads) {
            let spawned = thread::Builder::new()
                .name("image".into())
                .spawn_scoped(scope, labour);
            if let Err(error) = spawned {
                tracing::warn!(%error, "working with fewer threads");
                break;
            }
        }
        labour();
    });
    let error = first_error
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    error.map_or(Ok(()), Err)
}
