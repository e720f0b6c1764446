//! The real driver tree of ../shared/fixtures: its .inf files, and the names of all others.

use crate::tests::fixtures;

const TOP: &str = "virtio-win/";
/// Names all files of the tree.
const NAMES: &str = "virtio-win/files.txt";

/// Path in the tree and content; only .inf files have any. `None`, said loudly, where the fixtures are absent.
pub(crate) fn tree() -> Option<Vec<(String, Vec<u8>)>> {
    let is_wanted = |path: &str| path.starts_with(TOP) && (path.ends_with(".inf") || path == NAMES);
    let mut found = fixtures::files("virtio-win-inf.tar.xz", is_wanted)?;
    let names = String::from_utf8(found.remove(NAMES).unwrap()).unwrap();
    let mut files: Vec<(String, Vec<u8>)> = found
        .into_iter()
        .map(|(path, content)| (path.strip_prefix(TOP).unwrap().to_owned(), content))
        .collect();
    for name in names.lines().filter(|name| !name.ends_with(".inf")) {
        files.push((name.to_owned(), Vec::new()));
    }
    files.sort();
    assert!(files.len() > 300, "{}", files.len());
    Some(files)
}
