//! The stages of a conversion, in order.
//!
//! ```text
//! open source ─> check target ─> launch appliance ─> inspect ─> convert ─> trim ─> copy ─> finish
//!      │                │          └────────── prepare, and inspect() ──────┘     │
//!      │                └── everything that can be refused is refused here        │
//!      └── manifest hashes run beside the rest, and must hold before ─────────────┴─> finish
//! ```
//!
//! [`run`] is the list; each stage is a file in `stages/`. The command line and the server call the same function.
//! [`inspect`](fn@inspect) goes as far as the copy and says what it saw.

mod boot_menu;
mod error;
mod events;
mod foreign;
mod inspection;
mod job;
mod networks;
mod payload;
pub mod report;
mod stages;

pub use boot_menu::entries as boot_options;
pub use error::{Error, Result};
pub use events::{DiskProgress, Events, Stage};
pub use inspection::inspect;
pub use job::{
    ApplianceOptions, Conversion, Gate, Job, Open, Outcome, PayloadFile, RootChoice, Trim, Unknown,
};
pub use networks::{MacRule, NetworkRules};

use source::Opened;
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
    let verifications = std::mem::take(&mut opened.verifications);
    let result = stages::verify::beside(verifications, events, cancel, |verified| {
        let scratch = target.scratch_dir().to_owned();
        let mut seen = stages::prepare::Seen::default();
        let prepared =
            stages::prepare::run(job, &host, &opened, &scratch, &mut seen, events, cancel)?;
        let disks = stages::copy::run(
            job,
            &opened.machine,
            &prepared.outcome.caps,
            &prepared.overlays,
            target.as_mut(),
            events,
            cancel,
        )?;
        verified.wait()?;
        gate.before_finish(events, cancel)?;
        stages::finish::run(
            job,
            &opened,
            &seen.storage,
            prepared,
            disks,
            target.as_mut(),
            events,
        )
    });
    drop(target);
    result
}

/// What the source says of the machine (`--print-source`); nothing else is touched.
pub fn examine(job: &Job) -> Result<source::Opened> {
    Ok(source::open(&job.source, &job.source_options)?)
}
