//! Kernel arguments that only another hypervisor has a use for, or that stop the guest on KVM.

use crate::Result;
use crate::linux::boot;
use crate::linux::convert::Context;
use crate::linux::kargs;

const WHY: &str = "the old hypervisor's console and clock do not exist on KVM";

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    kargs::edit_all(&mut context.recorder, WHY, &|_, line| {
        kargs::hypervisor_line(line)
    })?;
    let stays = ["acpi=off", "acpi=ht", "noacpi", "pci=noacpi", "noapic"];
    let entries = boot::entries(context.root);
    let Some(default) = entries.iter().find(|entry| entry.is_default) else {
        context.recorder.not_needed("no boot menu was found");
        return Ok(());
    };
    for token in default
        .args
        .split_whitespace()
        .filter(|token| stays.contains(token))
    {
        context.recorder.warn(format!(
            "the default kernel starts with {token}, which was right for the old machine; if the guest finds no disks, take it out of {}",
            default.source
        ));
    }
    context
        .recorder
        .not_needed("no kernel argument belongs to another hypervisor");
    Ok(())
}
