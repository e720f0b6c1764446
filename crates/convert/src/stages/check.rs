//! Asks the target everything that can be refused beforehand: name, pool, networks, room for preallocation.

use source::Opened;
use target::{Plan, Target, TargetOptions};

use crate::{Events, Job, Result, Stage};

pub(crate) fn run(job: &Job, opened: &Opened, events: &dyn Events) -> Result<Box<dyn Target>> {
    let name = job.name.as_ref().unwrap_or(&opened.machine.name);
    events.stage(Stage::Check, &format!("checking the target for {name}"));
    let mut target = target::prepare(TargetOptions { name: name.clone(), ..job.target.clone() })?;
    // What a sparse copy needs is known only after the trim; the copy stage asks again then.
    target.check(&Plan { machine: &opened.machine, caps: None, estimated_bytes: vec![0; opened.disks.len()] })?;
    Ok(target)
}
