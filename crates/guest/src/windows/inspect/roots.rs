//! Where Windows is: its folder need not be called Windows, and one volume may hold several.

use crate::root::join;
use crate::windows::files;
use crate::{Kind, Root};

/// Folders of a volume's top that are looked into.
const FOLDERS_MAX: usize = 2048;
/// boot.ini is a few hundred bytes long.
const BOOT_INI_MAX: u64 = 64 << 10;

/// Folders with a registry, as spelled on the disk: the one that boot.ini starts by default first, then the usual names.
pub(crate) fn system_roots(root: &Root) -> Vec<String> {
    let mut roots: Vec<String> = Vec::new();
    let usual = boot_ini_default(root)
        .into_iter()
        .chain(["/Windows".to_owned(), "/WINNT".to_owned()]);
    let there = root.list("/").unwrap_or_default();
    let folders = there
        .into_iter()
        .filter(|entry| entry.kind == Kind::Dir)
        .take(FOLDERS_MAX)
        .map(|entry| join("/", &entry.name));
    for folder in usual.chain(folders) {
        let Some(folder) = files::find(root, &folder) else {
            continue;
        };
        if !roots.contains(&folder) && is_system_root(root, &folder) {
            roots.push(folder);
        }
    }
    roots
}

fn is_system_root(root: &Root, folder: &str) -> bool {
    let hive = files::find(root, &format!("{folder}/System32/config/SYSTEM"));
    hive.is_some_and(|hive| root.is_file(&hive))
}

/// The folder of `default=multi(0)disk(0)rdisk(0)partition(1)\WINDOWS` (Microsoft KB 289022).
fn boot_ini_default(root: &Root) -> Option<String> {
    let bytes = files::read(root, "/boot.ini", BOOT_INI_MAX).ok()??;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let is_default = key.trim().eq_ignore_ascii_case("default");
        let (_, folder) = value.trim().split_once('\\')?;
        (is_default && !folder.is_empty()).then(|| format!("/{}", folder.replace('\\', "/")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tree::put_at;

    #[test]
    fn a_windows_of_any_name_is_found_the_default_one_first() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["AltWin", "WINDOWS", "WINDOWS.0"] {
            let hive = format!("{folder}/system32/config/system");
            put_at(dir.path(), &hive, b"regf");
        }
        put_at(
            dir.path(),
            "Windows.old/Windows/System32/config/SYSTEM",
            b"regf",
        );
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(
            system_roots(&root),
            ["/WINDOWS", "/AltWin", "/WINDOWS.0"],
            "what an upgrade left is none"
        );
        put_at(
            dir.path(),
            "BOOT.INI",
            b"[boot loader]\r\ntimeout=30\r\nDefault = multi(0)disk(0)rdisk(0)partition(1)\\windows.0\r\n",
        );
        assert_eq!(system_roots(&root)[0], "/WINDOWS.0");
    }

    #[test]
    fn other_volumes_have_none() {
        let dir = tempfile::tempdir().unwrap();
        put_at(dir.path(), "Windows/explorer.exe", b"MZ");
        std::fs::create_dir_all(dir.path().join("x/System32/config/SYSTEM")).unwrap();
        assert!(system_roots(&Root::open(dir.path()).unwrap()).is_empty());
    }
}
