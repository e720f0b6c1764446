//! Changes the guest, in the overlay.

use types::{ConvertOptions, ConvertOutcome, GuestInfo, Machine};

use super::launch::Running;
use crate::{Conversion, Events, Result, Stage};

pub(crate) fn run(
    job: &Conversion,
    running: &mut Running,
    guest: &GuestInfo,
    machine: &Machine,
    events: &dyn Events,
) -> Result<ConvertOutcome> {
    events.stage(
        Stage::Convert,
        &format!("converting {} to run on KVM", guest.product_name),
    );
    let options = ConvertOptions {
        nics: machine.nics.clone(),
        static_ips: job.static_ips.clone(),
        firmware: machine.firmware,
        block_driver: job.block_driver,
        customise: job.customise.clone(),
        qemu_ga: crate::payload::qemu_ga_member(job),
        allow_guest_code: job.allow_guest_code,
        force_hibernated: job.force_hibernated,
    };
    let outcome = running.ask(|appliance| {
        appliance.convert(&guest.root, &options, &|step| events.step(step), &|line| {
            events.log(line)
        })
    })?;
    for warning in &outcome.warnings {
        events.warning(warning);
    }
    Ok(outcome)
}
