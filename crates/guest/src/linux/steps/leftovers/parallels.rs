//! Parallels Tools; they come without packages.

use super::{Family, never};
use crate::Result;
use crate::linux::convert::Context;

pub(super) const FAMILY: Family = Family {
    name: "Parallels",
    packages: &["parallels-tools*", "prl-tools*"],
    services: &[
        "prltoolsd",
        "prltools",
        "prl-x11",
        "prl_vtools",
        "prlfsmountd",
    ],
    uninstallers: &[],
    undo,
    keep: never,
};

fn undo(context: &mut Context<'_>) -> Result<()> {
    if context.root.is_dir("/usr/lib/parallels-tools") {
        context.recorder.warn(
            "Parallels Tools are disabled, not removed: their installer in /usr/lib/parallels-tools does that",
        );
    }
    Ok(())
}
