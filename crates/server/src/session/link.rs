//! One connection's life: from an agent's hello to the end of its control stream.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, mpsc, watch};
use tonic::Status;
use wire::inventory::Inventory;
use wire::session::{ExtentsReply, ExtentsRequest, ReadRequest, ServerMessage, server_message};

use super::SESSION_LEN;
use super::machine::{RemoteMachine, State};
use super::message_len;
use super::spool::DiskIdentity;

/// A connected agent.
#[derive(Debug)]
pub(super) struct Link {
    /// What the agent made up at its start.
    pub(super) session: [u8; SESSION_LEN],
    /// Number at the agent of each disk of the machine.
    pub(super) numbers: Vec<u32>,
    /// To the control stream.
    control: mpsc::Sender<Result<ServerMessage, Status>>,
    /// Set once: all streams are to end, and with what.
    ended: watch::Sender<Option<Status>>,
    /// When it said hello.
    pub(super) since: Instant,
}

impl Link {
    /// Ends all streams. The first reason stays.
    pub(super) fn end(&self, status: Status) {
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(status);
            first
        });
    }

    /// Waits until it is to end; with what.
    pub(super) async fn ended(&self) -> Status {
        let mut ended = self.ended.subscribe();
        let status = ended.wait_for(Option::is_some).await.ok();
        status
            .and_then(|status| status.clone())
            .unwrap_or_else(|| Status::unavailable("dial again"))
    }

    /// Sends unless the queue is full; how many bytes that were.
    pub(super) fn send(&self, message: server_message::Message) -> Option<usize> {
        let message = ServerMessage {
            message: Some(message),
        };
        let len = message_len(&message);
        self.control.try_send(Ok(message)).ok().map(|()| len)
    }
}

impl RemoteMachine {
    /// Takes a connection in and welcomes it; it replaces one that is there. An agent whose disks are not the job's is
    /// refused.
    pub(super) fn attach(
        &self,
        session: [u8; SESSION_LEN],
        inventory: &Inventory,
        control: mpsc::Sender<Result<ServerMessage, Status>>,
        welcome: ServerMessage,
    ) -> Result<Arc<Link>, Status> {
        let numbers = self.numbers(inventory)?;
        let mut state = self.state();
        if Self::is_refused(&state, &session) {
            let why = "this session gave too many wrong answers; start the agent again";
            return Err(Status::permission_denied(why));
        }
        // Before anything that is asked for below; an agent that is gone already is noticed by its task.
        let _ = control.try_send(Ok(welcome));
        let link = Arc::new(Link {
            session,
            numbers,
            control,
            ended: watch::Sender::new(None),
            since: Instant::now(),
        });
        if let Some(old) = state.link.replace(Arc::clone(&link)) {
            old.end(Status::aborted(
                "a newer connection of this machine took over",
            ));
        }
        for extents in &mut state.extents {
            extents.asked = None;
        }
        self.ask_extents(&mut state);
        state.proofs.connections += 1;
        drop(state);
        self.arrived.notify_all();
        Ok(link)
    }

    /// Lets a connection go. False when a newer one had replaced it.
    pub(super) fn detach(&self, link: &Arc<Link>) -> bool {
        link.end(Status::unavailable("the control stream ended"));
        let mut state = self.state();
        let current = state
            .link
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(held, link));
        if current {
            state.link = None;
        }
        current
    }

    /// Takes a data stream in. Its number, and how its task is told to end.
    pub(super) fn open_lane(
        &self,
        queue: mpsc::Sender<Result<ReadRequest, Status>>,
        most: usize,
    ) -> (u64, Arc<Notify>) {
        let mut state = self.state();
        let lane = state.schedule.add_lane(queue, most);
        self.pump(&mut state);
        lane
    }

    /// Lets a data stream go; what was not answered on it is asked for on another.
    pub(super) fn close_lane(&self, lane: u64) {
        let mut state = self.state();
        state.schedule.remove_lane(lane);
        self.pump(&mut state);
    }

    /// Where each disk of the job is in an inventory: names and places may change from boot to boot.
    fn numbers(&self, inventory: &Inventory) -> Result<Vec<u32>, Status> {
        let found: Vec<_> = inventory.disks.iter().map(DiskIdentity::of).collect();
        let mut numbers: Vec<u32> = Vec::with_capacity(self.disks.len());
        for disk in &self.disks {
            let wanted = &disk.identity;
            let named = |had: &DiskIdentity| had.name == wanted.name && had.may_be(wanted);
            let place = found
                .iter()
                .position(|had| had.surely_is(wanted) && had.name == wanted.name)
                .or_else(|| found.iter().position(|had| had.surely_is(wanted)))
                .or_else(|| found.iter().position(named))
                .and_then(|place| u32::try_from(place).ok())
                .filter(|place| !numbers.contains(place));
            numbers.push(place.ok_or_else(|| {
                Status::failed_precondition(format!(
                    "disk {} of the job (serial {:?}, {} bytes) is not in this machine's inventory",
                    wanted.name, wanted.serial, wanted.virtual_size
                ))
            })?);
        }
        Ok(numbers)
    }

    /// Asks where the disks hold data, for those that know and as far as it is not known here.
    fn ask_extents(&self, state: &mut State) {
        let Some(link) = state.link.clone() else {
            return;
        };
        for (index, disk) in self.disks.iter().enumerate() {
            let extents = &state.extents[index];
            let unknown = extents.unknown(disk.identity.virtual_size);
            let Some(range) = unknown.filter(|_| disk.extents_known && extents.asked.is_none())
            else {
                continue;
            };
            let id = state.schedule.next_id();
            let request = ExtentsRequest {
                id,
                disk: link.numbers[index],
                offset: range.start,
                len: range.end - range.start,
            };
            if let Some(len) = link.send(server_message::Message::Extents(request)) {
                state.extents[index].asked = Some((id, range));
                state.stats.wire_bytes += len as u64;
            }
        }
    }

    /// Takes an answer about extents in. A wrong one is dropped: all is data then.
    pub(super) fn extents_answered(&self, reply: &ExtentsReply) {
        let mut state = self.state();
        let asked = |extents: &super::extents::Extents| {
            extents
                .asked
                .as_ref()
                .is_some_and(|(id, _)| *id == reply.id)
        };
        let Some(index) = state.extents.iter().position(asked) else {
            tracing::warn!(id = reply.id, "extents came that were not asked for");
            return;
        };
        match state.extents[index].answer(reply) {
            Ok(()) => self.ask_extents(&mut state),
            Err(what) => {
                let disk = &self.disks[index].identity.name;
                tracing::warn!(
                    disk,
                    what,
                    "the agent's extents cannot be used; all is read"
                );
            }
        }
    }
}
