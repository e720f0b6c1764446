//! Real inputs: packs in ../shared/fixtures or `$V2V_FIXTURES`. Where they are absent that is said loudly, and in CI it is
//! fatal.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The pack of this name.
pub(crate) fn pack(name: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let dir = std::env::var_os("V2V_FIXTURES").map_or(own, PathBuf::from);
    let pack = dir.join(name);
    assert!(
        pack.exists() || std::env::var_os("CI").is_none(),
        "missing in CI: {}",
        pack.display()
    );
    if !pack.exists() {
        eprintln!("SKIP: no fixture {}", pack.display());
        return None;
    }
    Some(pack)
}

/// Files of a pack, by path.
pub(crate) fn files(
    name: &str,
    is_wanted: impl Fn(&str) -> bool,
) -> Option<BTreeMap<String, Vec<u8>>> {
    let file = File::open(pack(name)?).unwrap();
    let mut archive = tar::Archive::new(lzma_rust2::XzReader::new(file, false));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        if is_wanted(&path) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
    }
    Some(files)
}

/// Drivers of Windows' own that the machines have.
pub(crate) const INBOX: [&str; 10] = [
    "disk.sys",
    "partmgr.sys",
    "mountmgr.sys",
    "volmgr.sys",
    "pci.sys",
    "msahci.sys",
    "storahci.sys",
    "atapi.sys",
    "intelide.sys",
    "pciide.sys",
];

/// Hives of a machine.
pub(crate) struct Hives {
    pub(crate) system: Vec<u8>,
    pub(crate) software: Vec<u8>,
    /// What virt-v2v 2.2 changed of SYSTEM, as a difference of .reg files.
    pub(crate) theirs: String,
    /// What it changed of SOFTWARE.
    pub(crate) theirs_software: String,
}

/// The hives of a machine, as if they had been closed: those of Windows 8.1 were copied without the logs that they need.
pub(crate) fn hives(machine: &str) -> Option<Hives> {
    let prefix = format!("hives/{machine}/");
    let mut files = files("hives.tar.xz", |path| path.starts_with(&prefix))?;
    let mut take = |name: &str| files.remove(&format!("{prefix}{name}")).unwrap();
    let mut difference =
        |name: &str| String::from_utf8(take(&format!("virt-v2v-2.2.{name}.diff"))).unwrap();
    Some(Hives {
        theirs: difference("SYSTEM"),
        theirs_software: difference("SOFTWARE"),
        system: registry::testing::settled(take("SYSTEM")),
        software: registry::testing::settled(take("SOFTWARE")),
    })
}
