//! `--delete PATH`: `rm -rf` with the shell's wildcards (glob(7)), matched inside the guest.

use regex::{Regex, RegexBuilder};

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
        let glob = glob(component).map_err(|error| error.at(pattern))?;
        for dir in &found {
            let Some(glob) = &glob else {
                next.push(join(dir, &unescaped(component)));
                continue;
            };
            if !root.is_dir(if dir.is_empty() { "/" } else { dir }) {
                continue;
            }
            let hidden = component.starts_with(['.', '\\']);
            for name in root.names(if dir.is_empty() { "/" } else { dir }) {
                if glob.is_match(&name) && (hidden || !name.starts_with('.')) {
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

/// A component with wildcards as a regular expression; `None` for one without.
fn glob(component: &str) -> Result<Option<Regex>> {
    let mut regex = String::from("^");
    let mut wild = false;
    let mut chars = component.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                wild = true;
                regex.push_str(".*");
            }
            '?' => {
                wild = true;
                regex.push('.');
            }
            '[' if chars.clone().skip(1).any(|c| c == ']') => {
                wild = true;
                regex.push('[');
                if chars.next_if(|c| matches!(c, '!' | '^')).is_some() {
                    regex.push('^');
                }
                let mut first = true;
                for c in chars.by_ref() {
                    if c == ']' && !first {
                        break;
                    }
                    if c != '-' {
                        regex.push('\\');
                    }
                    // Letters and digits must not be escaped.
                    if c.is_alphanumeric() {
                        regex.pop();
                    }
                    regex.push(c);
                    first = false;
                }
                regex.push(']');
            }
            '\\' => regex.extend(chars.next().map(|c| regex::escape(&c.to_string()))),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    if !wild {
        return Ok(None);
    }
    regex.push('$');
    RegexBuilder::new(&regex)
        .dot_matches_new_line(true)
        .build()
        .map(Some)
        .map_err(|_| Error::unsupported(format!("`{component}` is no pattern of glob(7)")))
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
    fn patterns_match_as_the_shell_s_do() {
        for (pattern, yes, no) in [
            ("*.log", "a.log", "a.log.1"),
            ("a?c", "abc", "ac"),
            ("[a-c]x", "bx", "dx"),
            ("[!a]x", "bx", "ax"),
            ("[]]x", "]x", "x"),
            ("a[", "", "a"),
            ("\\*", "", "x"),
            ("a.*", "a.b", "ab"),
            ("*\n*", "a\nb", "ab"),
            ("é*", "éa", "ea"),
        ] {
            match glob(pattern).unwrap() {
                Some(regex) => {
                    assert!(regex.is_match(yes) && !regex.is_match(no), "{pattern}");
                }
                None => assert!(yes.is_empty(), "{pattern}"),
            }
        }
        assert_eq!(unescaped("\\*a"), "*a");
        assert!(is_root("/") && is_root("/./..") && !is_root("/*"));
    }
}
