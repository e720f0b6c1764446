//! The stages of a conversion, in order.
//!
//! ```text
//! open source ─> check target ─> launch appliance ─> inspect ─> convert ─> trim ─> copy ─> finish
//!      │                │                                                         │
//!      │                └── everything that can be refused is refused here        │
//!      └── manifest hashes run beside the rest, and must hold before ─────────────┴─> finish
//! ```
//!
//! [`run`] is the list; each stage is a file in `stages/`. The command line and the server call the same function.

mod error;
mod events;
mod job;
mod networks;
mod payload;
mod stages;

pub use error::{Error, Result};
pub use events::{DiskProgress, Events, Stage};
pub use job::{
    ApplianceOptions, Conversion, Gate, Job, Open, Outcome, PayloadFile, RootChoice, Trim, Unknown,
};
pub use networks::{MacRule, NetworkRules};

use source::Opened;
use target::Finished;
use types::CancelToken;

/// Opens a source and converts it. On any error nothing is left in the target, and nothing is left running.
pub fn run(job: &Job, events: &dyn Events, cancel: &CancelToken) -> Result<Outcome> {
    let opened = stages::open::run(job, events)?;
    run_opened(&job.conversion, opened, &Open, events, cancel)
}

/// Converts a machine whose disks are at hand: what the converter server does with a physical one.
pub fn run_opened(
    job: &Conversion,
    mut opened: Opened,
    gate: &dyn Gate,
    events: &dyn Events,
    cancel: &CancelToken,
) -> Result<Outcome> {
    for warning in &opened.warnings {
        events.warning(warning);
    }
    job.networks.apply(&mut opened.machine)?;
    let (mut target, host) = stages::check::run(job, &opened, events, cancel)?;
    let result = stages::verify::beside(opened.verifications, events, cancel, |verified| {
        let mut guest = stages::launch::run(
            job,
            &host,
            &opened.disks,
            target.scratch_dir(),
            events,
            cancel,
        )?;
        let inspected = stages::inspect::run(job, &mut guest, events)?;
        let converted = stages::convert::run(job, &mut guest, &inspected, &opened.machine, events)?;
        let overlays = stages::trim::run(job, guest, &inspected, events)?;
        stages::copy::run(
            job,
            &opened.machine,
            &converted.caps,
            &overlays,
            target.as_mut(),
            events,
            cancel,
        )?;
        verified.wait()?;
        gate.before_finish(events, cancel)?;
        let finished = Finished {
            machine: &opened.machine,
            caps: &converted.caps,
            guest: Some(&inspected.guest),
        };
        let placed =
            stages::finish::run(job, &finished, &converted.changes, target.as_mut(), events)?;
        Ok(Outcome {
            placed,
            changes: converted.changes,
            guest: inspected.guest,
        })
    });
    drop(target);
    result
}

/// What the source says of the machine (`--print-source`); nothing else is touched.
pub fn examine(job: &Job) -> Result<source::Opened> {
    Ok(source::open(&job.source, &job.source_options)?)
}
