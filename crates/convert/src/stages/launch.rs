//! Puts an overlay over every disk, serves them, and starts the appliance on them.

use std::path::Path;
use std::sync::Arc;

use appliance::{Appliance, LaunchOptions};
use image::nbd::Server;
use image::{BlockSource, Overlay};
use types::CancelToken;

use crate::{Error, Events, Job, Result, Stage};

/// The running appliance and what it works on.
pub(crate) struct Running {
    pub(crate) appliance: Appliance,
    pub(crate) server: Server,
    pub(crate) overlays: Vec<Arc<Overlay>>,
}

impl Running {
    /// Calls the appliance; when it fails because a disk could not be read, that is what the user is told.
    pub(crate) fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Appliance) -> appliance::Result<T>,
    ) -> Result<T> {
        match ask(&mut self.appliance) {
            Ok(reply) => Ok(reply),
            Err(error) if error.is_cancelled() => Err(Error::Cancelled),
            Err(error) => match self.server.first_error() {
                Some(cause) => Err(Error::Disk(cause)),
                None => Err(error.into()),
            },
        }
    }
}

pub(crate) fn run(
    job: &Job,
    disks: &[Arc<dyn BlockSource>],
    scratch: &Path,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<Running> {
    events.stage(Stage::Launch, "starting the appliance");
    let image = appliance::find_image()?;
    let mut overlays = Vec::new();
    for disk in disks {
        overlays.push(Arc::new(Overlay::new(Arc::clone(disk), scratch)?));
    }
    let exports: Vec<_> = overlays
        .iter()
        .enumerate()
        .map(|(index, overlay)| (format!("disk{index}"), Arc::clone(overlay)))
        .collect();
    let names = exports.iter().map(|(name, _)| name.clone()).collect();
    let server = Server::start(&scratch.join("nbd.sock"), exports)?;
    let options = LaunchOptions {
        memsize_mib: job.appliance.memsize_mib,
        smp: job.appliance.smp,
        total_disk_bytes: disks.iter().map(|disk| disk.virtual_size()).sum(),
        ..LaunchOptions::new(scratch.to_owned(), server.socket().to_owned(), names)
    };
    let appliance =
        Appliance::launch(&image, &options, cancel, &|line| events.log(line)).map_err(|error| {
            if error.is_cancelled() {
                Error::Cancelled
            } else {
                error.into()
            }
        })?;
    events.appliance(appliance.hello_ms(), appliance.accel().word());
    Ok(Running {
        appliance,
        server,
        overlays,
    })
}
