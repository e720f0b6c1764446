//! `--delete PATH`: `rm -rf` with the shell's wildcards (glob(7)), matched inside the guest.

use types::glob;

use crate::root::{Kind, join, split};
use crate::{Error, ErrorKind, Recorder, Result, Root};

const WHY: &str = "asked for by the administrator";
/// More matches than this are refused.
const MATCHES_MAX: usize = 64 << 10;

pub(super) fn apply(recorder: &mut Recorder<'_>, pattern: &str) -> Result<()> {
    let found = expand(recorder.root(), pattern)?;
    if found.is_empty() {
        recorder.warn(format!("--delete {pattern}: there is nothing like that"));
    }
    for path in found {
        let kind = match recorder.root().link_meta(&path) {
            Ok(meta) => meta.kind,
            // Gone with a match before it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if matches!(kind, Kind::File | Kind::Symlink) {
            recorder.remove(&path, WHY)?;
            continue;
        }
        let entries = recorder.root().remove_tree(&path)?;
        let why = format!("{WHY}, with {entries} entries below it");
        recorder.record(&path, Some(crate::recorder::sha256(b"")), None, &why);
    }
    Ok(())
}

/// True for a path that names the whole guest.
pub(super) fn is_root(pattern: &str) -> bool {
    pattern
        .split('/')
        .all(|name| matches!(name, "" | "." | ".."))
}

/// Paths that match, sorted. A name that begins with a dot is matched by a dot only.
fn expand(root: &Root, pattern: &str) -> Result<Vec<String>> {
    let mut found = vec![String::new()];
    for component in pattern.split('/').filter(|name| !name.is_empty()) {
        let mut next = Vec::new();
        for dir in &found {
            if !glob::is_glob(component) {
                next.push(join(dir, &unescaped(component)));
                continue;
            }
            if !root.is_dir(if dir.is_empty() { "/" } else { dir }) {
                continue;
            }
            let hidden = component.starts_with(['.', '\\']);
            for name in root.names(if dir.is_empty() { "/" } else { dir }) {
                if glob::matches(component, &name) && (hidden || !name.starts_with('.')) {
                    next.push(join(dir, &name));
                }
            }
            if next.len() > MATCHES_MAX {
                let message = format!("matches more than {MATCHES_MAX} files");
                return Err(Error::new(ErrorKind::Limit, message).at(pattern));
            }
        }
        found = next;
    }
    found.retain(|path| split(path).is_ok() && root.link_meta(path).is_ok());
    Ok(found)
}

fn unescaped(component: &str) -> String {
    let mut out = String::new();
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_takes_the_meaning_away() {
        assert_eq!(unescaped("\\*a"), "*a");
        assert!(is_root("/") && is_root("/./..") && !is_root("/*"));
    }
}
