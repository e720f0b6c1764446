//! Paths as Windows resolves them: without regard to case (NTFS compares by its $UpCase table; ASCII and simple Unicode
//! case folding cover the names that are looked up here).

use crate::root::join;
use crate::{Result, Root};

/// The path as it is spelled on the disk; `None` when there is no such file. Backslashes are taken as slashes.
pub(crate) fn find(root: &Root, path: &str) -> Option<String> {
    let mut found = String::new();
    for part in parts(path) {
        found = join(&found, &spelled(root, &found, part)?);
    }
    Some(absolute(found))
}

/// The path with as much of it as exists spelled as on the disk, the rest as it is given.
pub(crate) fn place(root: &Root, path: &str) -> String {
    let mut found = String::new();
    let mut missing = false;
    for part in parts(path) {
        let name = (!missing).then(|| spelled(root, &found, part)).flatten();
        missing = name.is_none();
        found = join(&found, name.as_deref().unwrap_or(part));
    }
    absolute(found)
}

/// Reads a file of at most `max` bytes; `None` when it does not exist.
pub(crate) fn read(root: &Root, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
    find(root, path)
        .map(|path| root.read(&path, max))
        .transpose()
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\']).filter(|part| !part.is_empty())
}

fn absolute(path: String) -> String {
    if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    }
}

fn spelled(root: &Root, dir: &str, wanted: &str) -> Option<String> {
    let names = root.names(if dir.is_empty() { "/" } else { dir });
    if names.iter().any(|name| name == wanted) {
        return Some(wanted.to_owned());
    }
    let folded = wanted.to_lowercase();
    names.into_iter().find(|name| name.to_lowercase() == folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("WINDOWS/system32/Config")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(
            find(&root, "\\Windows\\System32\\config").unwrap(),
            "/WINDOWS/system32/Config"
        );
        assert_eq!(
            place(&root, "/windows/Drivers/config"),
            "/WINDOWS/Drivers/config"
        );
        assert!(find(&root, "/windows/drivers").is_none());
    }
}
