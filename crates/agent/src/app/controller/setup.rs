//! What comes before the start: hardware, network, whether the server answers. Each is work in the background whose end
//! is reported.

use std::sync::Arc;
use std::time::Duration;

use super::{Controller, Detected, Report};
use crate::app::Phase;
use crate::session::{self, Answer};

/// Between attempts of an unattended agent to set up the network or to reach the server.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

impl Controller {
    pub(super) fn detect(&mut self) {
        self.view.phase = Phase::Detecting;
        let host = Arc::clone(&self.host);
        self.background(move || Report::Detected(Box::new(host.detect())));
    }

    pub(super) fn detected(&mut self, found: Detected) {
        let disks: Vec<String> = found
            .inventory
            .disks
            .iter()
            .map(|disk| format!("{} ({} bytes)", disk.name, disk.virtual_size))
            .collect();
        self.log(format!("found disks: {}", disks.join(", ")));
        for concern in &found.inventory.concerns {
            self.log(format!("note: {concern}"));
        }
        self.specs = found.disks;
        self.view.inventory = Some(Arc::new(found.inventory));
        self.view.phase = Phase::Setup;
    }

    pub(super) fn configure_network(&mut self) {
        if self.view.network.busy {
            return;
        }
        self.view.network.busy = true;
        self.view.network.error = None;
        let host = Arc::clone(&self.host);
        let interfaces = self.view.config.network.clone();
        self.background(move || Report::Configured(host.configure(&interfaces)));
    }

    pub(super) fn look_at_network(&self) {
        let host = Arc::clone(&self.host);
        self.background(move || Report::Network(host.network()));
    }

    pub(super) fn background(&self, work: impl FnOnce() -> Report + Send + 'static) {
        let reports = self.reports.clone();
        tokio::task::spawn_blocking(move || reports.send(work()));
    }

    pub(super) fn again(&self) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN_AFTER).await;
            reports.send(Report::Again)
        });
    }

    pub(super) fn test(&mut self) {
        self.testing = true;
        let config = &self.view.config;
        let known = config
            .fingerprint
            .or(config.join.as_ref().map(|join| join.fingerprint));
        let (addresses, reports) = (config.addresses(), self.reports.clone());
        tokio::spawn(async move {
            reports.send(Report::Tested(
                session::test_connection(&addresses, known).await,
            ))
        });
    }

    pub(super) fn was_tested(&mut self, result: Result<Answer, (String, bool)>) {
        match result {
            Ok(Answer::Ready { address, version }) => {
                self.tested = true;
                self.testing = false;
                self.view.error = None;
                self.log(format!("{address} answers: v2v {version}"));
            }
            Ok(Answer::Shows {
                address,
                fingerprint,
            }) => {
                self.testing = false;
                self.view.shown_fingerprint = Some(fingerprint);
                self.log(format!("{address} shows the fingerprint {fingerprint}"));
            }
            Err((error, for_good)) => {
                if self.view.error.as_ref() != Some(&error) {
                    self.log(format!("the server cannot be reached: {error}"));
                }
                self.view.error = Some(error.clone());
                if !self.view.config.unattended {
                    self.testing = false;
                } else if for_good && self.view.phase == Phase::Setup {
                    self.fail(error);
                } else {
                    self.again();
                }
            }
        }
    }
}
