//! A hive as keys and values, by whoever read it.

use std::collections::BTreeMap;

use registry::Hive;

/// Type and data.
pub(crate) type Data = (u32, Vec<u8>);
/// Values by name; the default value has an empty name.
pub(crate) type Values = BTreeMap<String, Data>;
/// Values by the path of their key; the root has an empty path.
pub(crate) type Tree = BTreeMap<String, Values>;

/// Differences that a failure shows.
const SHOWN: usize = 20;

/// What our own reader sees.
pub(crate) fn ours(hive: &Hive) -> Tree {
    let mut tree = Tree::new();
    let mut paths = vec![String::new()];
    while let Some(path) = paths.pop() {
        for key in hive.keys(&path).unwrap() {
            paths.push(join(&path, &key));
        }
        let values = hive.values(&path).unwrap();
        let values = values
            .into_iter()
            .map(|(name, value)| (name, (value.kind.0, value.data)));
        let before = tree.insert(path.clone(), values.collect());
        assert!(before.is_none(), "{path} is there twice");
    }
    tree
}

/// `PATH\KEY`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}\\{key}")
    }
}

/// Fails with the first differences; names the key and the value.
#[track_caller]
pub(crate) fn same(what: &str, ours: &Tree, theirs: &Tree) {
    let mut lines = Vec::new();
    for (path, values) in ours {
        match theirs.get(path) {
            None => lines.push(format!("{path}: they have no such key")),
            Some(other) => compare(path, values, other, &mut lines),
        }
    }
    for path in theirs.keys().filter(|path| !ours.contains_key(*path)) {
        lines.push(format!("{path}: we have no such key"));
    }
    let count = lines.len();
    lines.truncate(SHOWN);
    assert!(
        lines.is_empty(),
        "{what}: {count} differences\n{}",
        lines.join("\n")
    );
    let values: usize = ours.values().map(BTreeMap::len).sum();
    println!("{what}: {} keys and {values} values agree", ours.len());
}

fn compare(path: &str, ours: &Values, theirs: &Values, lines: &mut Vec<String>) {
    for (name, data) in ours {
        match theirs.get(name) {
            None => lines.push(format!("{path}: they have no value {name:?}")),
            Some(other) if other == data => {}
            Some(other) => lines.push(format!(
                "{path}: {name:?} is {}, to them {}",
                show(data),
                show(other)
            )),
        }
    }
    for name in theirs.keys().filter(|name| !ours.contains_key(*name)) {
        lines.push(format!("{path}: we have no value {name:?}"));
    }
}

fn show((kind, data): &Data) -> String {
    let bytes: Vec<String> = data.iter().take(40).map(|b| format!("{b:02x}")).collect();
    format!("type {kind:#x}, {} bytes {}", data.len(), bytes.join(" "))
}
