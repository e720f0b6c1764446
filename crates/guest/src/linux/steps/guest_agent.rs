//! qemu-guest-agent, when it is installed, starts at boot.

use crate::Result;
use crate::linux::convert::Context;
use crate::root::join;

const UNIT: &str = "qemu-guest-agent.service";
const UNIT_DIRS: [&str; 2] = ["/lib/systemd/system", "/usr/lib/systemd/system"];

pub(crate) fn applies(context: &Context<'_>) -> bool {
    context.guest.has_guest_agent && context.guest.init == "systemd"
}

/// Makes the links that `systemctl enable` would make (systemd.unit(5), "[Install] section options"). A unit without
/// that section is started by its udev rule, as in some releases of Debian.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let own = join("/etc/systemd/system", UNIT);
    if context.root.read_link(&own).is_ok_and(|target| target == "/dev/null") {
        context.recorder.warn("qemu-guest-agent is installed but masked by the administrator; left so");
        return Ok(());
    }
    let candidates = UNIT_DIRS.iter().map(|dir| join(dir, UNIT)).chain([own]);
    let Some(path) = candidates.into_iter().find(|path| context.root.is_file(path)) else { return Ok(()) };
    let text = context.root.text(&path).unwrap_or_default();
    let wanted_by = text
        .lines()
        .skip_while(|line| line.trim() != "[Install]")
        .filter_map(|line| line.trim().strip_prefix("WantedBy="))
        .flat_map(str::split_whitespace)
        .filter(|unit| !unit.contains('/'));
    for unit in wanted_by {
        let link = format!("/etc/systemd/system/{unit}.wants/{UNIT}");
        context.recorder.symlink(&link, &path, "the guest agent answers the host")?;
    }
    Ok(())
}
