//! The service, the machine and the spool together, against an agent made of memory over mutual TLS.

mod fake;
mod hostile;
mod transfer;

use std::path::Path;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use image::copy::{CopyOptions, copy};
use image::{BlockSource, Error};
use types::CancelToken;
use wire::inventory::Inventory;
use wire::tls::Identity;

use crate::JobId;
use crate::session::{self, RateLimit, RemoteMachine, RemoteOptions};
use fake::{FakeAgent, Rig, Running, noise};

const BLOCK: usize = wire::BLOCK_LEN as usize;
const MIB: usize = 1 << 20;

fn options(spool: &Path) -> RemoteOptions {
    RemoteOptions {
        spool: spool.to_owned(),
        base: None,
        bandwidth: None,
        total_bandwidth: RateLimit::new(None),
        reserve_bytes: 0,
        patience: Some(Duration::from_secs(20)),
        retry_bad: false,
    }
}

fn open(inventory: &Inventory, options: RemoteOptions) -> Arc<RemoteMachine> {
    let disks: Vec<u32> = (0..u32::try_from(inventory.disks.len()).unwrap()).collect();
    RemoteMachine::open(inventory, &disks, options).unwrap()
}

/// A disk with noise, text, holes, and a short last block.
fn mixed(mib: usize, seed: u64) -> Vec<u8> {
    let mut disk = noise(mib * MIB + 3 * 512, seed);
    for (index, block) in disk.chunks_mut(BLOCK).enumerate() {
        match index % 7 {
            2 | 3 => block.fill(0),
            5 => block.fill(b'x'),
            _ => {}
        }
    }
    disk
}

/// A server with one agent and one machine.
struct Setup {
    rig: Rig,
    identity: Identity,
    agent: Arc<FakeAgent>,
    machine: Arc<RemoteMachine>,
    dir: tempfile::TempDir,
}

impl Setup {
    fn new(agent: FakeAgent) -> Self {
        Self::with(agent, |_| {})
    }

    fn with(agent: FakeAgent, change: impl Fn(&mut RemoteOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&dir.path().join("spool"));
        change(&mut options);
        let machine = open(&agent.inventory(), options);
        let rig = Rig::new();
        let identity = rig.pki.client("agent");
        rig.agents.admit(&identity, 1, &machine);
        Self {
            rig,
            identity,
            agent: Arc::new(agent),
            machine,
            dir,
        }
    }

    fn start(&self) -> Running {
        self.rig.start(&self.identity, &self.agent)
    }

    /// Opens the machine's spool anew, as a restarted server does.
    fn reopen(&mut self, change: impl Fn(&mut RemoteOptions)) {
        let mut options = options(&self.dir.path().join("spool"));
        change(&mut options);
        self.machine.stop();
        self.machine = open(&self.agent.inventory(), options);
        self.rig.agents.admit(&self.identity, 1, &self.machine);
    }

    fn events(&self) -> Vec<String> {
        self.rig.agents.events.lock().unwrap().clone()
    }
}

/// Copies a whole disk through the copy engine.
fn receive(source: &dyn BlockSource) -> Result<Vec<u8>, Error> {
    let size = source.virtual_size();
    source.will_need(slice::from_ref(&(0..size)));
    let sink = Memory(std::sync::Mutex::new(vec![
        0;
        usize::try_from(size).unwrap()
    ]));
    let cancel = CancelToken::new();
    copy(source, &sink, &CopyOptions::default(), &cancel, &|_| {})?;
    Ok(sink.0.into_inner().unwrap())
}

/// A sink in memory.
#[derive(Debug)]
struct Memory(std::sync::Mutex<Vec<u8>>);

impl image::BlockSink for Memory {
    fn virtual_size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn granularity(&self) -> u64 {
        512
    }

    fn finish(self: Box<Self>) -> image::Result<image::SinkStats> {
        Ok(image::SinkStats::default())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> image::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[start..start + buf.len()].copy_from_slice(buf);
        Ok(())
    }
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not within 10 s: {what}");
}

/// The message of an error with its causes.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
