//! A data stream: requests out, chunks in.
//!
//! Chunks are checked and stored on the pool of blocking threads, one at a time for each stream, while the next one is
//! being received: so a stream holds two chunks at most, a slow disk stops no other task, and two streams keep two
//! processors busy.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tonic::{Status, Streaming};
use wire::session::{Chunk, ReadRequest};

use super::super::RemoteMachine;
use super::super::receive::Lie;
use super::Connected;

/// Data streams of one session; an older one goes when there are more.
const MAX_STREAMS: usize = 8;

type Stored = JoinHandle<Result<(), Lie>>;

pub(super) async fn run(
    connected: Connected,
    mut chunks: Streaming<Chunk>,
    queue: mpsc::Sender<Result<ReadRequest, Status>>,
) {
    let Connected { machine, link, .. } = connected;
    let mut ended = pin!(link.ended());
    let (lane, kill) = machine.open_lane(queue.clone(), MAX_STREAMS);
    let lane = Lane {
        machine: Arc::clone(&machine),
        lane,
    };
    // What is being stored, and what waits for that.
    let mut storing: Option<Stored> = None;
    let mut waiting: Option<Chunk> = None;
    let status = loop {
        if storing.is_none()
            && let Some(chunk) = waiting.take()
        {
            let (machine, lane) = (Arc::clone(&machine), lane.lane);
            storing = Some(spawn_blocking(move || machine.receive(lane, &chunk)));
        }
        tokio::select! {
            result = stored(&mut storing) => {
                storing = None;
                if let Err(status) = result {
                    break Some(status);
                }
            }
            message = chunks.message(), if waiting.is_none() => match message {
                Ok(Some(chunk)) => waiting = Some(chunk),
                Ok(None) | Err(_) => break None,
            },
            status = &mut ended => break Some(status),
            () = kill.notified() => break Some(Status::aborted("a newer stream took over")),
            () = queue.closed() => break None,
        }
    };
    // What came before the end counts; and nothing is asked for again while it may still be written.
    while storing.is_some() {
        let result = stored(&mut storing).await;
        storing = match waiting.take() {
            Some(chunk) if result.is_ok() => {
                let (machine, lane) = (Arc::clone(&machine), lane.lane);
                Some(spawn_blocking(move || machine.receive(lane, &chunk)))
            }
            _ => None,
        };
    }
    drop(lane);
    if let Some(status) = status {
        let _ = queue.try_send(Err(status));
    }
}

/// Waits for what is being stored; for ever where nothing is.
async fn stored(storing: &mut Option<Stored>) -> Result<(), Status> {
    match storing {
        None => pending().await,
        Some(task) => match task.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Lie(what))) => Err(Status::invalid_argument(what)),
            Err(_) => Err(Status::internal("the server failed; see its log")),
        },
    }
}

/// Gives the stream's requests back however its task ends.
struct Lane {
    machine: Arc<RemoteMachine>,
    lane: u64,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.machine.close_lane(self.lane);
    }
}
