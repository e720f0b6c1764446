//! The gRPC service: one operation at a time, each on a thread of its own, its log lines and results as a stream.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc::{self, Sender, UnboundedSender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use types::GuestInfo;
use wire::appliance::appliance_server::Appliance;
use wire::appliance::{
    ConvertEvent, ConvertRequest, HelloReply, HelloRequest, InspectEvent, InspectReply,
    InspectRequest, ShutdownReply, ShutdownRequest, TrimEvent, TrimRequest, convert_event,
    inspect_event, trim_event,
};

use crate::inspect::RootOptions;
use crate::storage::Storage;
use crate::{console, convert, init, inspect, trim};

/// Events that may wait for the host before the operation does.
const QUEUE: usize = 256;

/// What one operation leaves for the next.
#[derive(Default)]
pub(crate) struct State {
    /// Assembled devices.
    pub(crate) storage: Storage,
    /// Guests found on them.
    pub(crate) guests: Vec<GuestInfo>,
    /// How to mount the roots that need more than their device.
    pub(crate) root_options: RootOptions,
}

/// See the module.
pub(crate) struct Service {
    state: Arc<Mutex<State>>,
    end: UnboundedSender<()>,
}

/// For the reply to Shutdown to leave.
const GOODBYE: Duration = Duration::from_millis(30);

type Events<E> = Response<ReceiverStream<Result<E, Status>>>;

impl Service {
    /// A service that tells `end` when the machine is to be turned off.
    pub(crate) fn new(end: UnboundedSender<()>) -> Self {
        Service {
            state: Arc::default(),
            end,
        }
    }

    /// Runs `work` and streams what it emits, its log, and its error.
    fn operate<E, W>(&self, log: fn(String) -> E, work: W) -> Events<E>
    where
        E: Send + 'static,
        W: FnOnce(&mut State, &dyn Fn(E)) -> Result<()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let state = Arc::clone(&self.state);
        tokio::task::spawn_blocking(move || {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let _listening = console::listen({
                let sender = sender.clone();
                Box::new(move |line| send(&sender, Ok(log(line))))
            });
            if let Err(error) = work(&mut state, &|event| send(&sender, Ok(event))) {
                send(&sender, Err(status(&error)));
            }
        });
        Response::new(ReceiverStream::new(receiver))
    }
}

/// A host that has gone away wants no events; closing the port ends the machine.
fn send<E>(sender: &Sender<Result<E, Status>>, event: Result<E, Status>) {
    let _ = sender.blocking_send(event);
}

/// Whatever stops an operation here is a reason not to convert; the message is for the user, in one line.
fn status(error: &anyhow::Error) -> Status {
    let text = format!("{error:#}");
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    Status::failed_precondition(lines.join("; "))
}

#[tonic::async_trait]
impl Appliance for Service {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let (kernel_release, uptime_ms) = init::kernel();
        Ok(Response::new(HelloReply {
            protocol: wire::APPLIANCE_PROTOCOL,
            kernel_release,
            uptime_ms,
        }))
    }

    type InspectStream = ReceiverStream<Result<InspectEvent, Status>>;

    async fn inspect(
        &self,
        request: Request<InspectRequest>,
    ) -> Result<Events<InspectEvent>, Status> {
        let request = request.into_inner();
        let event = |event| InspectEvent { event: Some(event) };
        Ok(self.operate(
            |line| InspectEvent {
                event: Some(inspect_event::Event::Log(line)),
            },
            move |state, emit| {
                *state = State {
                    storage: Storage::assemble(request.disks, &request.keys)?,
                    ..State::default()
                };
                (state.guests, state.root_options) = inspect::run(&state.storage)?;
                let guests = state
                    .guests
                    .iter()
                    .map(serde_json::to_string)
                    .collect::<Result<_, _>>()?;
                emit(event(inspect_event::Event::Reply(InspectReply {
                    storage_json: serde_json::to_string(state.storage.map())?,
                    guests_json: guests,
                })));
                Ok(())
            },
        ))
    }

    type ConvertStream = ReceiverStream<Result<ConvertEvent, Status>>;

    async fn convert(
        &self,
        request: Request<ConvertRequest>,
    ) -> Result<Events<ConvertEvent>, Status> {
        let request = request.into_inner();
        let event = |event| ConvertEvent { event: Some(event) };
        Ok(self.operate(
            |line| ConvertEvent {
                event: Some(convert_event::Event::Log(line)),
            },
            move |state, emit| {
                let options = serde_json::from_str(&request.options_json)?;
                let mut step =
                    |name: &str| emit(event(convert_event::Event::Step(name.to_owned())));
                let outcome = convert::run(state, &request.root, &options, &mut step)?;
                emit(event(convert_event::Event::OutcomeJson(
                    serde_json::to_string(&outcome)?,
                )));
                Ok(())
            },
        ))
    }

    type TrimStream = ReceiverStream<Result<TrimEvent, Status>>;

    async fn trim(&self, request: Request<TrimRequest>) -> Result<Events<TrimEvent>, Status> {
        let request = request.into_inner();
        let event = |event| TrimEvent { event: Some(event) };
        Ok(self.operate(
            |line| TrimEvent {
                event: Some(trim_event::Event::Log(line)),
            },
            move |state, emit| {
                let mut discarded = 0;
                if request.fstrim {
                    discarded = trim::run(state, &request.root, &request.skip)?;
                }
                state.storage.flush()?;
                emit(event(trim_event::Event::DiscardedBytes(discarded)));
                Ok(())
            },
        ))
    }

    async fn shutdown(
        &self,
        _: Request<ShutdownRequest>,
    ) -> Result<Response<ShutdownReply>, Status> {
        let state = Arc::clone(&self.state);
        let stopped = tokio::task::spawn_blocking(move || {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state
                .storage
                .deactivate()
                .and_then(|()| state.storage.flush())
        });
        let result = stopped
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        // The reply is on its way before the power goes. The host may have gone in the meantime.
        let end = self.end.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GOODBYE).await;
            let _ = end.send(());
        });
        result
            .map(|()| Response::new(ShutdownReply {}))
            .map_err(|error| status(&error))
    }
}
