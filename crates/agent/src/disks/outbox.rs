//! Chunks on their way to one `Data` stream: urgent ones first. Its length is bounded by the tickets of the pool: each
//! chunk holds one until the one after it is asked for, when it is in the buffers of the connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::Stream;
use wire::session::Chunk;

use super::pool::Ticket;

/// A chunk and its place in memory.
pub(super) type Parcel = (Chunk, Ticket);

/// Where workers put what they made.
#[derive(Clone, Debug)]
pub struct Outbox {
    urgent: UnboundedSender<Parcel>,
    bulk: UnboundedSender<Parcel>,
}

impl Outbox {
    /// Dropped if the stream has ended.
    pub(super) fn put(&self, urgent: bool, parcel: Parcel) {
        let queue = if urgent { &self.urgent } else { &self.bulk };
        let _ = queue.send(parcel);
    }

    /// The stream has ended: what is asked for it need not be read.
    pub(super) fn is_closed(&self) -> bool {
        self.bulk.is_closed()
    }
}

/// The stream's end.
#[derive(Debug)]
pub struct Outgoing {
    urgent: UnboundedReceiver<Parcel>,
    bulk: UnboundedReceiver<Parcel>,
    /// Of the chunk that was given out last.
    ticket: Option<Ticket>,
}

/// Both ends.
pub fn outbox() -> (Outbox, Outgoing) {
    let (urgent, urgent_end) = unbounded_channel();
    let (bulk, bulk_end) = unbounded_channel();
    let outgoing = Outgoing {
        urgent: urgent_end,
        bulk: bulk_end,
        ticket: None,
    };
    (Outbox { urgent, bulk }, outgoing)
}

impl Stream for Outgoing {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let this = &mut *self;
        if let Some(ticket) = this.ticket.take() {
            ticket.left();
        }
        let next = match this.urgent.poll_recv(cx) {
            Poll::Ready(Some(parcel)) => Poll::Ready(Some(parcel)),
            Poll::Ready(None) | Poll::Pending => this.bulk.poll_recv(cx),
        };
        next.map(|parcel| {
            parcel.map(|(chunk, ticket)| {
                this.ticket = Some(ticket);
                chunk
            })
        })
    }
}
