//! What the jobs need of remote disks and of the conversion: a seam, so that the state machine is tested without either.

use std::path::PathBuf;
use std::sync::Arc;

use convert::{Conversion, Events, Gate, Outcome};
use image::BlockSource;
use source::Opened;
use types::{CancelToken, Machine};
use wire::inventory::Inventory;
use wire::session::Wish;

use crate::session::{DiskTransfer, RateLimit, RemoteMachine, RemoteOptions};
use crate::{Progress, ProofRange, ServerConfig};

/// The disks of one job; see [`RemoteMachine`].
pub(crate) trait Remote: Send + Sync {
    /// The disks in the order of the wish.
    fn sources(&self) -> Vec<Arc<dyn BlockSource>>;
    /// How far all are.
    fn progress(&self) -> Progress;
    /// How far each is.
    fn disks(&self) -> Vec<DiskTransfer>;
    /// An agent is attached.
    fn is_connected(&self) -> bool;
    /// Compares both sides; blocks.
    fn prove(&self, reread: bool, cancel: &CancelToken) -> image::Result<Vec<ProofRange>>;
    /// Ends every wait, for good.
    fn stop(&self);
    /// What sessions attach their streams to.
    fn machine(&self) -> Option<Arc<RemoteMachine>>;
}

/// Where a job's disks are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpoolPlan {
    /// Folder of the job.
    pub(crate) spool: PathBuf,
    /// Folder of an earlier job of the same machine.
    pub(crate) base: Option<PathBuf>,
    /// Try what could not be read again.
    pub(crate) retry_bad: bool,
}

/// Makes remote disks and runs conversions.
pub(crate) trait Backend: Send + Sync {
    /// Opens or makes the spool of these disks (places in the inventory).
    fn open(
        &self,
        inventory: &Inventory,
        disks: &[u32],
        plan: SpoolPlan,
    ) -> image::Result<Arc<dyn Remote>>;
    /// The machine as the stages see it.
    fn machine(&self, inventory: &Inventory, wish: &Wish) -> Machine;
    /// Runs the stages.
    fn convert(
        &self,
        job: &Conversion,
        opened: Opened,
        gate: &dyn Gate,
        events: &dyn Events,
        cancel: &CancelToken,
    ) -> convert::Result<Outcome>;
}

/// The real thing.
#[derive(Debug)]
pub(crate) struct Production {
    config: ServerConfig,
    total_bandwidth: Arc<RateLimit>,
}

impl Production {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self {
            config: config.clone(),
            total_bandwidth: RateLimit::new(config.total_bandwidth),
        }
    }
}

impl Backend for Production {
    fn open(
        &self,
        inventory: &Inventory,
        disks: &[u32],
        plan: SpoolPlan,
    ) -> image::Result<Arc<dyn Remote>> {
        let options = RemoteOptions {
            spool: plan.spool,
            base: plan.base,
            bandwidth: self.config.job_bandwidth,
            total_bandwidth: Arc::clone(&self.total_bandwidth),
            reserve_bytes: self.config.reserve_bytes,
            patience: self.config.agent_patience,
            retry_bad: plan.retry_bad,
        };
        let machine = RemoteMachine::open(inventory, disks, options)?;
        Ok(Arc::new(SessionDisks(machine)))
    }

    fn machine(&self, inventory: &Inventory, wish: &Wish) -> Machine {
        crate::machine(inventory, wish)
    }

    fn convert(
        &self,
        job: &Conversion,
        opened: Opened,
        gate: &dyn Gate,
        events: &dyn Events,
        cancel: &CancelToken,
    ) -> convert::Result<Outcome> {
        convert::run_opened(job, opened, gate, events, cancel)
    }
}

struct SessionDisks(Arc<RemoteMachine>);

impl Remote for SessionDisks {
    fn sources(&self) -> Vec<Arc<dyn BlockSource>> {
        self.0.sources()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }

    fn disks(&self) -> Vec<DiskTransfer> {
        self.0.disks()
    }

    fn is_connected(&self) -> bool {
        self.0.is_connected()
    }

    fn prove(&self, reread: bool, cancel: &CancelToken) -> image::Result<Vec<ProofRange>> {
        self.0.prove(reread, cancel)
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn machine(&self) -> Option<Arc<RemoteMachine>> {
        Some(Arc::clone(&self.0))
    }
}
