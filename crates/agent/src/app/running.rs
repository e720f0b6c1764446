//! A session under way: what it was given, and how it is told to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use wire::inventory::Inventory;
use wire::session::{LogLine, UserAction};

use super::controller::Report;
use crate::config::Config;
use crate::disks::{DiskSpec, Disks, Pool, PoolOptions};
use crate::session::{self, Controls, Event, SessionOptions};

/// Lines kept for a server that is away.
const LINES: usize = 256;
/// What somebody at the machine may want while the server is away.
const ACTIONS: usize = 4;

/// Where a session reports to.
pub(super) struct Wiring {
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) log: mpsc::UnboundedSender<String>,
    pub(super) first_pause: Duration,
}

/// Ends its session when it is dropped.
pub(super) struct Running {
    stop: watch::Sender<bool>,
    actions: mpsc::Sender<UserAction>,
    lines: mpsc::Sender<LogLine>,
}

impl Running {
    /// Opens the disks and dials. The error is what is missing or wrong.
    pub(super) fn start(
        config: &Config,
        inventory: Arc<Inventory>,
        specs: &[DiskSpec],
        wiring: Wiring,
    ) -> Result<Self, String> {
        let Wiring {
            reports,
            events,
            log,
            first_pause,
        } = wiring;
        let target = config.target()?;
        let wish = session::wish(config, &inventory)?;
        let disks = Disks::open(specs, &wish.disks)?;
        let options = PoolOptions {
            log: Some(log),
            ..PoolOptions::default()
        };
        let pool = Pool::start(disks, options);
        let pool = pool.map_err(|error| format!("starting the readers: {error}"))?;
        let (stop, stopped) = watch::channel(false);
        let (actions, wanted) = mpsc::channel(ACTIONS);
        let (lines, logged) = mpsc::channel(LINES);
        let options = SessionOptions {
            target,
            label: session::label(config, &inventory),
            inventory,
            wish,
            first_pause,
        };
        let controls = Controls {
            stop: stopped,
            actions: wanted,
            lines: logged,
            events,
        };
        tokio::spawn(async move {
            let result = session::run(options, Arc::new(pool), controls).await;
            reports.send(Report::Ended(result))
        });
        Ok(Self {
            stop,
            actions,
            lines,
        })
    }

    pub(super) fn act(&self, action: UserAction) {
        // Full: the same was asked for already.
        let _ = self.actions.try_send(action);
    }

    pub(super) fn line(&self, line: LogLine) {
        let _ = self.lines.try_send(line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}
