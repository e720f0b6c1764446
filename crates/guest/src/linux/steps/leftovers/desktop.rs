//! Programs of the guest tools that desktops start (Desktop Entry Specification 1.5, key `Hidden`), and mounts that
//! only another hypervisor serves.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::fstab;
use crate::linux::steps::leftovers::services::matches;
use crate::linux::steps::leftovers::text::comment_out;
use crate::root::join;

const AUTOSTART: &str = "/etc/xdg/autostart";
const PROGRAMS: [&str; 5] = [
    "vmware-user*",
    "vboxclient*",
    "prlcc*",
    "prl-*",
    "vmtoolsd*",
];
/// Types of file systems that another hypervisor's host or tools serve.
const MOUNTS: [&str; 9] = [
    "vmhgfs",
    "fuse.vmhgfs-fuse",
    "vmhgfs-fuse",
    "vmblock",
    "fuse.vmware-vmblock",
    "vboxsf",
    "prl_fs",
    "fuse.prl_fsd",
    "xenfs",
];

pub(super) fn apply(context: &mut Context<'_>) -> Result<()> {
    let why = "starts a program of another hypervisor's guest tools";
    for name in context.root.names(AUTOSTART) {
        let stem = name.strip_suffix(".desktop").unwrap_or_default();
        if matches(&PROGRAMS, stem) {
            let path = join(AUTOSTART, &name);
            context.recorder.edit(&path, why, hide)?;
        }
    }
    let why = "mounts a folder of another hypervisor's host";
    context.recorder.edit("/etc/fstab", why, |text| {
        comment_out(text, |line| {
            fstab::parse(line)
                .first()
                .is_some_and(|entry| MOUNTS.contains(&entry.fs_type.as_str()))
        })
    })?;
    Ok(())
}

/// `Hidden=true` in the first group, which is `[Desktop Entry]`.
fn hide(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut done = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if bare.starts_with("Hidden") && bare.ends_with("true") {
            return None;
        }
        if bare.starts_with("Hidden") && !done {
            continue;
        }
        out.push_str(line);
        if bare == "[Desktop Entry]" {
            if !line.ends_with('\n') {
                out.push('\n');
            }
            out.push_str("Hidden=true\n");
            done = true;
        }
    }
    done.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_program_stays_hidden() {
        let old = "[Desktop Entry]\nType=Application\nExec=/usr/bin/vmware-user\n";
        let new = hide(old).unwrap();
        assert!(new.starts_with("[Desktop Entry]\nHidden=true\nType="));
        assert_eq!(hide(&new), None);
        assert_eq!(hide("no group\n"), None);
    }
}
