//! Storage drivers as boot drivers: services, critical devices, the driver database.

use crate::Result;
use crate::windows::convert::Context;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    context.recorder.not_needed("not written yet");
    Ok(())
}
