//! SELinux: a replaced file keeps its label, a new one has its directory's; where that was not possible, the guest
//! relabels itself at its next boot.

use crate::Result;
use crate::linux::convert::Context;

const MARK: &str = "/.autorelabel";

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.guest.selinux && !context.recorder.unlabelled().is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    if context.root.exists(MARK) {
        return Ok(());
    }
    let first = context.recorder.unlabelled().first().cloned().unwrap_or_default();
    context.recorder.write(MARK, b"", &format!("{first} and others could not be given an SELinux label"))?;
    context.recorder.warn("the guest relabels its files at the first boot, and reboots once");
    Ok(())
}
