//! Discards what the guest's file systems do not use, and ends the appliance.

use std::sync::Arc;

use image::Overlay;

use super::launch::Running;
use crate::{Conversion, Error, Events, Result, Stage, Trim};

pub(crate) fn run(
    job: &Conversion,
    mut running: Running,
    root: &str,
    events: &dyn Events,
) -> Result<Vec<Arc<Overlay>>> {
    events.stage(Stage::Trim, "discarding unused blocks");
    let (fstrim, skip): (bool, &[String]) = match &job.trim {
        Trim::AllBut(skip) => (true, skip),
        Trim::Nothing => (false, &[]),
    };
    let discarded =
        running.ask(|appliance| appliance.trim(root, fstrim, skip, &|line| events.log(line)))?;
    events.log(&format!("{discarded} bytes discarded"));
    let Running {
        appliance,
        server,
        overlays,
    } = running;
    appliance.shutdown()?;
    let failed = server.first_error();
    server.stop();
    match failed {
        Some(cause) => Err(Error::Disk(cause)),
        None => Ok(overlays),
    }
}
