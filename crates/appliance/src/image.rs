//! Where the appliance image is.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Kernel and initramfs of the appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplianceImage {
    /// Uncompressed ELF kernel with a PVH entry.
    pub kernel: PathBuf,
    /// Initramfs with applianced as /init.
    pub initramfs: PathBuf,
}

/// Name of the kernel in the image's folder.
const KERNEL: &str = "vmlinux";
/// Names of the initramfs, the first that exists.
const INITRAMFS: &[&str] = &[
    "initramfs.cpio",
    "initramfs.cpio.zst",
    "initramfs.cpio.lz4",
    "initramfs.cpio.gz",
];
/// Where a package puts it.
const INSTALLED: &str = "/usr/lib/v2v/appliance";

/// Looks in `$V2V_APPLIANCE`, beside the program (`appliance/`), in /usr/lib/v2v/appliance, and, for a program that
/// cargo built, in `target/appliance/image`.
pub fn find_image() -> Result<ApplianceImage> {
    let named = std::env::var_os("V2V_APPLIANCE").map(PathBuf::from);
    let program = std::env::current_exe().ok();
    let folders = match named {
        Some(folder) => vec![folder],
        None => candidates(program.as_deref()),
    };
    folders
        .iter()
        .find_map(|folder| in_folder(folder))
        .ok_or_else(|| {
            let tried: Vec<_> = folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            Error::NoImage {
                tried: tried.join(", "),
            }
        })
}

fn candidates(program: Option<&Path>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = program.and_then(Path::parent) {
        folders.push(folder.join("appliance"));
    }
    folders.push(PathBuf::from(INSTALLED));
    // target/debug/v2v or target/debug/deps/test-…
    for ancestor in program
        .map(Path::ancestors)
        .into_iter()
        .flatten()
        .skip(1)
        .take(3)
    {
        if ancestor
            .file_name()
            .is_some_and(|name| name == "debug" || name == "release")
        {
            folders.extend(
                ancestor
                    .parent()
                    .map(|target| target.join("appliance/image")),
            );
        }
    }
    folders
}

fn in_folder(folder: &Path) -> Option<ApplianceImage> {
    let kernel = folder.join(KERNEL);
    let initramfs = INITRAMFS
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())?;
    kernel
        .is_file()
        .then_some(ApplianceImage { kernel, initramfs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beside_the_program_comes_first_and_cargos_target_last() {
        let found = candidates(Some(Path::new("/src/target/debug/v2v")));
        let want = [
            "/src/target/debug/appliance",
            INSTALLED,
            "/src/target/appliance/image",
        ];
        assert_eq!(found, want.map(PathBuf::from));
    }

    #[test]
    fn a_folder_without_both_files_is_no_image() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(in_folder(dir.path()), None);
        std::fs::write(dir.path().join("vmlinux"), "").unwrap();
        assert_eq!(in_folder(dir.path()), None);
        std::fs::write(dir.path().join("initramfs.cpio"), "").unwrap();
        assert_eq!(
            in_folder(dir.path()).unwrap().initramfs,
            dir.path().join("initramfs.cpio")
        );
    }
}
