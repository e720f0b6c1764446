//! Puts an overlay over every disk, serves them, and starts the appliance on them.

use std::path::Path;
use std::sync::Arc;

use appliance::{Appliance, LaunchOptions};
use image::nbd::Server;
use image::{BlockSource, Overlay};
use types::CancelToken;

use super::check::Host;
use crate::{Conversion, Error, Events, Result, Stage, payload};

/// The running appliance and what it works on.
pub(crate) struct Running {
    pub(crate) appliance: Appliance,
    pub(crate) server: Server,
    pub(crate) overlays: Vec<Arc<Overlay>>,
}

impl Running {
    /// Calls the appliance. A disk that could not be read or written on the way is the error, whatever the
    /// appliance made of it: it may have taken an unreadable file system for none.
    pub(crate) fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Appliance) -> appliance::Result<T>,
    ) -> Result<T> {
        let result = ask(&mut self.appliance);
        match (result, self.server.first_error()) {
            (Err(error), _) if error.is_cancelled() => Err(error.into()),
            (_, Some(cause)) => Err(Error::Disk(cause)),
            (result, None) => Ok(result?),
        }
    }
}

pub(crate) fn run(
    job: &Conversion,
    host: &Host,
    disks: &[Arc<dyn BlockSource>],
    scratch: &Path,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<Running> {
    events.stage(Stage::Launch, "starting the appliance");
    let mut overlays = Vec::new();
    for disk in disks {
        overlays.push(Arc::new(Overlay::new(Arc::clone(disk), scratch)?));
    }
    let mut exports: Vec<_> = overlays
        .iter()
        .enumerate()
        .map(|(index, overlay)| (format!("disk{index}"), Arc::clone(overlay)))
        .collect();
    let names = exports.iter().map(|(name, _)| name.clone()).collect();
    let payload = payload::disk(job, cancel)?;
    let has_payload = payload.is_some();
    if let Some(disk) = payload {
        // The server serves overlays; nothing is ever written to this one.
        let overlay = Arc::new(Overlay::new(disk, scratch)?);
        exports.push((payload::EXPORT.to_owned(), overlay));
    }
    let server = Server::start(&scratch.join("nbd.sock"), exports)?;
    let options = LaunchOptions {
        memsize_mib: job.appliance.memsize_mib,
        smp: job.appliance.smp,
        encrypted: !job.keys.is_empty(),
        sector_sizes: disks
            .iter()
            .map(|disk| disk.logical_sector_size())
            .collect(),
        total_disk_bytes: disks.iter().map(|disk| disk.virtual_size()).sum(),
        payload: has_payload.then(|| payload::EXPORT.to_owned()),
        ..LaunchOptions::new(
            host.accel,
            scratch.to_owned(),
            server.socket().to_owned(),
            names,
        )
    };
    let appliance = Appliance::launch(&host.image, &options, cancel)?;
    events.appliance(appliance.hello_ms(), appliance.accel().word());
    Ok(Running {
        appliance,
        server,
        overlays,
    })
}
