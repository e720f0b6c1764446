//! The file systems of the kernel. None of the machine's own is ever mounted.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

struct Mount {
    fs_type: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: Option<&'static CStr>,
    /// Mounted only where this is.
    needs: Option<&'static str>,
}

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NOEXEC)
    .union(MountFlags::NODEV);

/// In this order.
const MOUNTS: [Mount; 7] = [
    Mount {
        fs_type: "proc",
        target: "/proc",
        flags: SAFE,
        data: None,
        needs: None,
    },
    Mount {
        fs_type: "sysfs",
        target: "/sys",
        flags: SAFE,
        data: None,
        needs: None,
    },
    Mount {
        fs_type: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: Some(c"mode=0755"),
        needs: None,
    },
    Mount {
        fs_type: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: Some(c"mode=0620,ptmxmode=0666"),
        needs: None,
    },
    Mount {
        fs_type: "tmpfs",
        target: "/run",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: Some(c"mode=0755"),
        needs: None,
    },
    Mount {
        fs_type: "tmpfs",
        target: "/tmp",
        flags: MountFlags::NOSUID.union(MountFlags::NODEV),
        data: Some(c"mode=1777"),
        needs: None,
    },
    // Only to be read: the machine's boot entries stay as they are.
    Mount {
        fs_type: "efivarfs",
        target: "/sys/firmware/efi/efivars",
        flags: SAFE.union(MountFlags::RDONLY),
        data: None,
        needs: Some("/sys/firmware/efi/efivars"),
    },
];

/// Folders that programs expect under /run.
const FOLDERS: [&str; 5] = [
    super::RUN,
    "/run/udev/rules.d",
    "/run/lock",
    "/run/mdadm",
    "/root",
];

/// Mounts everything; gives what went wrong, one line each.
pub(super) fn mount_all() -> Vec<String> {
    let mut problems = Vec::new();
    for wanted in MOUNTS {
        if wanted.needs.is_some_and(|path| !Path::new(path).exists()) {
            continue;
        }
        let target = wanted.target;
        if let Err(error) = fs::create_dir_all(target) {
            problems.push(format!("creating {target}: {error}"));
        }
        match mount(
            wanted.fs_type,
            target,
            wanted.fs_type,
            wanted.flags,
            wanted.data,
        ) {
            // Busy: the kernel mounted it already.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(error) => problems.push(format!("mounting {target}: {error}")),
        }
    }
    for folder in FOLDERS {
        if let Err(error) = fs::create_dir_all(folder) {
            problems.push(format!("creating {folder}: {error}"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_of_the_kernel_are_mounted() {
        let known = ["proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "efivarfs"];
        for wanted in &MOUNTS {
            assert!(known.contains(&wanted.fs_type), "{}", wanted.fs_type);
            assert!(
                wanted.flags.contains(MountFlags::NOSUID),
                "{}",
                wanted.target
            );
        }
        let efi = MOUNTS.iter().find(|m| m.fs_type == "efivarfs").unwrap();
        assert!(efi.flags.contains(MountFlags::RDONLY));
    }

    #[test]
    fn nothing_is_mounted_below_what_comes_later() {
        for (at, wanted) in MOUNTS.iter().enumerate() {
            let later = MOUNTS.get(at + 1..).unwrap_or_default();
            let hidden = later
                .iter()
                .find(|m| Path::new(wanted.target).starts_with(m.target));
            assert!(hidden.is_none(), "{} is hidden", wanted.target);
        }
    }
}
