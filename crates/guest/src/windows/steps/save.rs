//! Writes the hives.

use crate::Result;
use crate::windows::convert::Context;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    context.registry.save(&mut context.recorder)
}
