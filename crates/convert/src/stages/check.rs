//! Asks the target everything that can be refused beforehand: name, pool, networks, room for preallocation.

use source::Opened;
use target::{Plan, Target};

use crate::{Events, Job, Result, Stage};

pub(crate) fn run(job: &Job, opened: &Opened, events: &dyn Events) -> Result<Box<dyn Target>> {
    events.stage(Stage::Check, &format!("checking the target {}", job.target.kind));
    let mut target = target::prepare(job.target.clone())?;
    // What a sparse copy needs is known only after the trim; the copy stage asks again then.
    target.check(&Plan { machine: &opened.machine, estimated_bytes: vec![0; opened.disks.len()] })?;
    Ok(target)
}
