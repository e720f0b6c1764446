//! A hibernated guest holds its file systems in memory; writing to them now would damage them when it resumes.

use std::os::unix::fs::FileExt;

use types::{BlockDevice, StorageMap};

use crate::linux::devices::Devices;
use crate::linux::fstab;
use crate::{CONFIG_MAX, Error, ErrorKind, Result, Root};

/// What the last ten bytes of the first page of swap space begin with while it holds a saved memory: the kernel's own
/// (kernel/power/swap.c), the old one's, µswsusp's, TuxOnIce's, and that of SUSE's early kernels; as blkid knows them.
const SUSPEND_SIGNATURES: [&[u8]; 5] = [
    b"S1SUSPEND",
    b"S2SUSPEND",
    b"ULSUSPEND",
    b"LINHIB0001",
    b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c",
];
const SIGNATURE_LEN: usize = 10;
/// Page sizes that Linux has on some architecture.
const PAGE_SIZES: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];
/// So much of swap space is needed for [`has_suspend_signature`].
pub const SWAP_SIGNATURE_END: usize = 64 << 10;
/// `resume_offset=` counts pages; those of all machines that can hibernate are of this size.
const PAGE: u64 = 4096;
/// Swap files that installers make; systemd finds them without an entry in fstab, too.
const USUAL_FILES: [&str; 6] = [
    "/swapfile",
    "/swap.img",
    "/swap/swapfile",
    "/var/swapfile",
    "/var/swap",
    "/.swapfile",
];
/// Where kernel arguments are written.
const ARGUMENT_FILES: [&str; 8] = [
    "/etc/default/grub",
    "/etc/kernel/cmdline",
    "/boot/grub2/grub.cfg",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grubenv",
    "/boot/grub/menu.lst",
    "/etc/initramfs-tools/conf.d/resume",
    "/boot/extlinux/extlinux.conf",
];

/// Fails when swap space on these disks holds a hibernated system.
pub fn refuse_hibernated(storage: &StorageMap) -> Result<()> {
    match storage
        .devices
        .iter()
        .find(|device| device.content == "swsuspend")
    {
        Some(device) => Err(hibernated(&swap_space(device))),
        None => Ok(()),
    }
}

/// The same for swap files, with everything mounted; `root_device` is for the message.
pub fn refuse_hibernated_files(root: &Root, root_device: &str) -> Result<()> {
    let entries = fstab::parse(&root.text("/etc/fstab").unwrap_or_default());
    let named = entries
        .iter()
        .filter(|entry| entry.fs_type == "swap" && entry.spec.starts_with('/'))
        .map(|entry| entry.spec.as_str())
        .filter(|path| !path.starts_with("/dev/"));
    for path in named.chain(USUAL_FILES) {
        if root.is_file(path) && has_signature(root, path)? {
            return Err(hibernated(&format!(
                "the swap file {path} on {root_device}"
            )));
        }
    }
    Ok(())
}

/// Devices and byte offsets at which the kernel is told to look for a saved memory in a file (`resume=` with
/// `resume_offset=`, Documentation/power/swsusp-and-swap-files.rst).
pub fn resume_places(root: &Root, storage: &StorageMap, root_device: &str) -> Vec<(String, u64)> {
    let devices = Devices::new(root, storage).near(root_device);
    let mut places = Vec::new();
    let entries = root.names("/boot/loader/entries");
    let entries = entries
        .iter()
        .filter(|name| name.ends_with(".conf"))
        .map(|name| format!("/boot/loader/entries/{name}"));
    for path in ARGUMENT_FILES
        .iter()
        .map(|path| (*path).to_owned())
        .chain(entries)
    {
        if let Ok(bytes) = root.read(&path, CONFIG_MAX) {
            for (device, pages) in resume_arguments(&String::from_utf8_lossy(&bytes)) {
                let offset = pages.checked_mul(PAGE);
                let device = devices.resolve(&device, None);
                if let Some(place) = device.map(|device| device.name.clone()).zip(offset) {
                    places.push(place);
                }
            }
        }
    }
    places.sort();
    places.dedup();
    places
}

/// Device and offset of each line that has both.
fn resume_arguments(text: &str) -> Vec<(String, u64)> {
    let found = text.lines().filter_map(|line| {
        let (mut device, mut offset) = (None, None);
        for token in line.split(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'')) {
            let token = token.trim_start_matches("GRUB_CMDLINE_LINUX_DEFAULT=");
            if let Some(value) = token
                .strip_prefix("resume=")
                .or_else(|| token.strip_prefix("RESUME="))
            {
                device = Some(value.to_owned());
            } else if let Some(value) = token.strip_prefix("resume_offset=") {
                offset = value.parse().ok();
            }
        }
        device.zip(offset)
    });
    found.collect()
}

fn has_signature(root: &Root, path: &str) -> Result<bool> {
    let file = root.open_file(path)?;
    let mut bytes = vec![0; SWAP_SIGNATURE_END];
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, len as u64) {
            Ok(0) | Err(_) => break,
            Ok(more) => len += more,
        }
    }
    bytes.truncate(len);
    Ok(has_suspend_signature(&bytes))
}

/// True when the beginning of swap space says that it holds a saved memory.
pub fn has_suspend_signature(start: &[u8]) -> bool {
    PAGE_SIZES.iter().any(|size| {
        let end = start.get(size - SIGNATURE_LEN..*size);
        end.is_some_and(|end| {
            let mut signatures = SUSPEND_SIGNATURES.iter();
            signatures.any(|signature| end.starts_with(signature))
        })
    })
}

fn swap_space(device: &BlockDevice) -> String {
    match &device.uuid {
        Some(uuid) => format!("the swap space {} (UUID {uuid})", device.name),
        None => format!("the swap space {}", device.name),
    }
}

/// The refusal, with what to do.
pub fn hibernated(place: &str) -> Error {
    let message = format!(
        "the guest is hibernated (its memory is saved in {place}): start it at its source, let it resume, shut it down \
         properly with `systemctl poweroff` or `shutdown -h now`, and convert it again; what it has in memory is thrown \
         away instead by starting it with the kernel argument `noresume`, and in it `swapoff -a` and `mkswap` on that swap"
    );
    Error::new(ErrorKind::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tree::{part, put_at};

    #[test]
    fn each_kind_of_saved_memory_is_known_at_each_page_size() {
        for size in PAGE_SIZES {
            for signature in SUSPEND_SIGNATURES {
                let mut bytes = vec![0; size];
                assert!(!has_suspend_signature(&bytes));
                bytes[size - 10..size - 10 + signature.len()].copy_from_slice(signature);
                assert!(has_suspend_signature(&bytes), "{size} {signature:?}");
            }
        }
        assert!(!has_suspend_signature(b"SWAPSPACE2"));
    }

    #[test]
    fn swap_files_in_and_outside_fstab_are_looked_at() {
        let mut swap = vec![0; 8192];
        swap[4086..4095].copy_from_slice(b"S1SUSPEND");
        for (fstab, file) in [("/my/swap none swap sw 0 0\n", "my/swap"), ("", "swapfile")] {
            let dir = tempfile::tempdir().unwrap();
            put_at(dir.path(), "etc/fstab", fstab.as_bytes());
            let root = Root::open(dir.path()).unwrap();
            assert!(refuse_hibernated_files(&root, "/dev/sda1").is_ok());
            put_at(dir.path(), file, &swap);
            let error = refuse_hibernated_files(&root, "/dev/sda1")
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(file) && error.contains("poweroff"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_place_of_a_file_is_read_from_kernel_arguments() {
        let dir = tempfile::tempdir().unwrap();
        put_at(
            dir.path(),
            "etc/default/grub",
            b"GRUB_CMDLINE_LINUX_DEFAULT=\"quiet resume=UUID=r-1 resume_offset=34816\"\n",
        );
        put_at(
            dir.path(),
            "boot/loader/entries/a.conf",
            b"title A\noptions root=UUID=r-1 resume=/dev/sda1 resume_offset=34816 quiet\n",
        );
        put_at(
            dir.path(),
            "boot/grub/grub.cfg",
            b"linux /v resume=/dev/sda9 resume_offset=1\n",
        );
        let root = Root::open(dir.path()).unwrap();
        let storage = StorageMap {
            devices: vec![part(0, 1, "ext4", Some("r-1"))],
        };
        assert_eq!(
            resume_places(&root, &storage, "/dev/sda1"),
            [("/dev/sda1".to_owned(), 34816 * 4096)]
        );
    }
}
