//! What PID 1 does before and after the work.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// Mounts what every program expects. The kernel's archive brings the directories.
pub(crate) fn prepare() -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (fs_type, target, flags) in [
        ("proc", "/proc", flags | MountFlags::NODEV),
        ("sysfs", "/sys", flags | MountFlags::NODEV),
        ("devtmpfs", "/dev", flags),
        ("tmpfs", "/run", flags | MountFlags::NODEV),
        ("tmpfs", "/tmp", flags | MountFlags::NODEV),
    ] {
        mount(fs_type, target, fs_type, flags, None)
            .with_context(|| format!("mounting {target}"))?;
    }
    for folder in [
        "/run/lock/lvm",
        "/run/lvm",
        "/run/cryptsetup",
        "/run/mdadm",
        crate::mounts::GUEST,
    ] {
        fs::create_dir_all(folder).with_context(|| format!("creating {folder}"))?;
    }
    Ok(())
}

/// Writes back what is dirty and turns the machine off.
pub(crate) fn power_off() -> ! {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        crate::console::line(&format!("applianced: error: powering off: {error}"));
    }
    // The end of PID 1 is a kernel panic, and a panic ends QEMU.
    std::process::exit(1)
}

/// Kernel release and milliseconds since its start.
pub(crate) fn kernel() -> (String, u64) {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    (release, uptime_ms(&uptime).unwrap_or(0))
}

/// `12.34 5.67`: seconds since the start, and idle ones.
fn uptime_ms(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let hundredths: u64 = hundredths.parse().ok()?;
    seconds
        .checked_mul(1000)?
        .checked_add(hundredths.checked_mul(10)?)
}

/// Sets a kernel setting in /proc or /sys; one that does not exist in this kernel is not missed.
pub(crate) fn set(path: impl AsRef<Path>, value: &str) {
    if let Err(error) = fs::write(path.as_ref(), value) {
        tracing::debug!("setting {} to {value}: {error}", path.as_ref().display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_read_in_hundredths() {
        assert_eq!(uptime_ms("2.05 1.00\n"), Some(2050));
        assert_eq!(uptime_ms(""), None);
    }
}
