//! virt-customize's options.

use crate::Result;
use crate::windows::convert::Context;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    context.recorder.not_needed("not written yet");
    Ok(())
}
