//! The gRPC client: one HTTP/2 connection on the socket behind the appliance's virtio-serial port.
//!
//! Calls block. Meanwhile the child is watched, the caller's cancel token is looked at, and silence has a limit.

use std::future::Future;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};
use types::{CancelToken, ConvertOptions, ConvertOutcome, GuestInfo, StorageMap};
use wire::APPLIANCE_PROTOCOL;
use wire::appliance::appliance_client::ApplianceClient;
use wire::appliance::{
    self, ConvertRequest, HelloRequest, InspectRequest, ShutdownRequest, TrimRequest,
    convert_event, inspect_event, trim_event,
};

use crate::qemu::Qemu;
use crate::{Error, Result};

/// How often the child and the cancel token are looked at.
const TICK: Duration = Duration::from_millis(25);
/// Largest message: a storage map of thousands of devices stays far below it.
const MAX_MESSAGE: usize = 64 << 20;

/// Key of an encrypted volume.
#[derive(Clone)]
pub struct Key {
    /// Device name, UUID, or `all`.
    pub id: String,
    /// Passphrase or content of a key file.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}

/// What can end a call early.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) cancel: &'a CancelToken,
    /// Longest time without any event.
    pub(crate) silence: Duration,
}

impl Watch<'_> {
    /// The reason to stop waiting, if there is one.
    fn reason(&self, doing: &str, since: Instant) -> Option<Error> {
        if self.cancel.is_cancelled() {
            return Some(Error::Cancelled);
        }
        if let Some(status) = self.qemu.status() {
            return Some(Error::Died {
                doing: doing.to_owned(),
                status,
                last: self.qemu.last_words(),
            });
        }
        (since.elapsed() > self.silence).then(|| Error::Silent {
            doing: doing.to_owned(),
            seconds: self.silence.as_secs(),
            last: self.qemu.last_words(),
        })
    }

    async fn until<T>(
        &self,
        doing: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T> {
        let since = Instant::now();
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result.map_err(|status| self.explain(doing, &status)),
                () = tokio::time::sleep(TICK) => {
                    if let Some(reason) = self.reason(doing, since) {
                        return Err(reason);
                    }
                }
            }
        }
    }

    /// A status that the appliance gave is its message; a broken connection is a dead appliance.
    fn explain(&self, doing: &str, status: &Status) -> Error {
        if self.cancel.is_cancelled() {
            return Error::Cancelled;
        }
        if !matches!(
            status.code(),
            Code::Unknown | Code::Unavailable | Code::Cancelled
        ) {
            return Error::Refused(status.message().to_owned());
        }
        // QEMU ends a moment after the connection breaks.
        for _ in 0..40 {
            if let Some(reason) = self.reason(doing, Instant::now()) {
                return reason;
            }
            thread::sleep(TICK);
        }
        Error::Died {
            doing: doing.to_owned(),
            status: format!("connection lost: {}", status.message()),
            last: self.qemu.last_words(),
        }
    }
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    rpc: ApplianceClient<Channel>,
}

impl Client {
    /// Waits for QEMU to connect and prepares the channel; nothing is sent yet.
    pub(crate) fn accept(listener: UnixListener, watch: &Watch<'_>) -> Result<Self> {
        let stream = accept_one(&listener, watch)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("appliance-rpc")
            .enable_all()
            .build()
            .map_err(|e| Error::io("starting the RPC runtime", e))?;
        let channel = {
            let _inside = runtime.enter();
            stream
                .set_nonblocking(true)
                .map_err(|e| Error::io("preparing the appliance's socket", e))?;
            let stream = tokio::net::UnixStream::from_std(stream)
                .map_err(|e| Error::io("preparing the appliance's socket", e))?;
            let once = Arc::new(Mutex::new(Some(stream)));
            let connector = tower::service_fn(move |_: Uri| {
                let stream = once.lock().unwrap_or_else(|e| e.into_inner()).take();
                async move {
                    stream
                        .map(TokioIo::new)
                        .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
                }
            });
            Endpoint::from_static("http://appliance").connect_with_connector_lazy(connector)
        };
        let rpc = ApplianceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { runtime, rpc })
    }

    /// Proves that the appliance lives and is of this build.
    pub(crate) fn hello(&mut self, watch: &Watch<'_>) -> Result<()> {
        let Self { runtime, rpc } = self;
        let reply = runtime
            .block_on(watch.until("starting", rpc.hello(HelloRequest {})))?
            .into_inner();
        tracing::debug!(
            "appliance: kernel {}, up {} ms",
            reply.kernel_release,
            reply.uptime_ms
        );
        if reply.protocol != APPLIANCE_PROTOCOL {
            return Err(Error::Protocol {
                found: reply.protocol,
                expected: APPLIANCE_PROTOCOL,
            });
        }
        Ok(())
    }

    pub(crate) fn inspect(
        &mut self,
        disks: usize,
        keys: &[Key],
        log: &dyn Fn(&str),
        watch: &Watch<'_>,
    ) -> Result<(StorageMap, Vec<GuestInfo>)> {
        let doing = "inspecting the guest";
        let request = InspectRequest {
            disks: u32::try_from(disks).unwrap_or(u32::MAX),
            keys: keys
                .iter()
                .map(|key| appliance::Key {
                    id: key.id.clone(),
                    secret: key.secret.clone(),
                })
                .collect(),
        };
        let Self { runtime, rpc } = self;
        runtime.block_on(async {
            let mut events = watch.until(doing, rpc.inspect(request)).await?.into_inner();
            loop {
                match next(watch, doing, &mut events).await?.event {
                    Some(inspect_event::Event::Log(line)) => log(&line),
                    Some(inspect_event::Event::Reply(reply)) => {
                        let storage = document("storage map", &reply.storage_json)?;
                        let guests = reply
                            .guests_json
                            .iter()
                            .map(|json| document("guest description", json));
                        return Ok((storage, guests.collect::<Result<_>>()?));
                    }
                    None => {}
                }
            }
        })
    }

    pub(crate) fn convert(
        &mut self,
        root: &str,
        options: &ConvertOptions,
        step: &dyn Fn(&str),
        log: &dyn Fn(&str),
        watch: &Watch<'_>,
    ) -> Result<ConvertOutcome> {
        let doing = "converting the guest";
        let options_json = serde_json::to_string(options).map_err(|source| Error::Document {
            what: "options",
            source,
        })?;
        let request = ConvertRequest {
            root: root.to_owned(),
            options_json,
        };
        let Self { runtime, rpc } = self;
        runtime.block_on(async {
            let mut events = watch.until(doing, rpc.convert(request)).await?.into_inner();
            loop {
                match next(watch, doing, &mut events).await?.event {
                    Some(convert_event::Event::Log(line)) => log(&line),
                    Some(convert_event::Event::Step(name)) => step(&name),
                    Some(convert_event::Event::OutcomeJson(json)) => {
                        return document("conversion outcome", &json);
                    }
                    None => {}
                }
            }
        })
    }

    pub(crate) fn trim(
        &mut self,
        root: &str,
        fstrim: bool,
        skip: &[String],
        log: &dyn Fn(&str),
        watch: &Watch<'_>,
    ) -> Result<u64> {
        let doing = "discarding unused blocks";
        let request = TrimRequest {
            fstrim,
            skip: skip.to_vec(),
            root: root.to_owned(),
        };
        let Self { runtime, rpc } = self;
        runtime.block_on(async {
            let mut events = watch.until(doing, rpc.trim(request)).await?.into_inner();
            loop {
                match next(watch, doing, &mut events).await?.event {
                    Some(trim_event::Event::Log(line)) => log(&line),
                    Some(trim_event::Event::DiscardedBytes(bytes)) => return Ok(bytes),
                    None => {}
                }
            }
        })
    }

    /// A reply is not certain: the power may go first.
    pub(crate) fn shutdown(&mut self, watch: &Watch<'_>) -> Result<()> {
        let Self { runtime, rpc } = self;
        match runtime.block_on(watch.until("powering off", rpc.shutdown(ShutdownRequest {}))) {
            Ok(_) | Err(Error::Died { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

async fn next<T>(watch: &Watch<'_>, doing: &str, events: &mut Streaming<T>) -> Result<T> {
    let ended = || Status::data_loss("the appliance ended its reply too early");
    watch
        .until(doing, async { events.message().await?.ok_or_else(ended) })
        .await
}

fn document<T: DeserializeOwned>(what: &'static str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|source| Error::Document { what, source })
}

/// QEMU connects when it starts; it may also end instead.
fn accept_one(listener: &UnixListener, watch: &Watch<'_>) -> Result<UnixStream> {
    let since = Instant::now();
    listener
        .set_nonblocking(true)
        .map_err(|e| Error::io("preparing the appliance's socket", e))?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::io("waiting for QEMU", error)),
        }
        if let Some(reason) = watch.reason("starting", since) {
            return Err(reason);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
