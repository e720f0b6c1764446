//! What the converted guest can drive.

use types::GuestCaps;

use crate::windows::convert::Context;

/// By the drivers that were found for it.
pub(crate) fn caps(context: &Context<'_>) -> GuestCaps {
    let _ = context;
    unimplemented!()
}
