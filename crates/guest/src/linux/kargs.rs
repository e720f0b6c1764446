//! Kernel arguments, wherever they are written: tokens between blanks and quotes, some with a list of `key=value` in them.

use crate::linux::devices::{Devices, Form};

/// Arguments (and variables of initramfs-tools) whose value is a device.
const DEVICE_KEYS: [&str; 7] = ["root", "resume", "real_root", "swap", "cryptdevice", "source", "journal_dev"];

/// Replaces each token for which `new` returns something; `None` when none changes.
pub(crate) fn map_tokens(text: &str, mut new: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut changed = false;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_boundary).unwrap_or(rest.len());
        let (token, tail) = rest.split_at(end);
        match if token.is_empty() { None } else { new(token) } {
            Some(value) if value != token => {
                out.push_str(&value);
                changed = true;
            }
            _ => out.push_str(token),
        }
        let boundary = tail.chars().next().map_or(0, char::len_utf8);
        let (skipped, tail) = tail.split_at(boundary);
        out.push_str(skipped);
        rest = tail;
    }
    changed.then_some(out)
}

fn is_boundary(c: char) -> bool {
    c.is_ascii_whitespace() || matches!(c, '"' | '\'')
}

/// `root=UUID=…` for `root=/dev/sda1`, the same inside `cryptopts=…,source=/dev/sda2`, and `cryptdevice=DEV:NAME`.
pub(crate) fn stable_token(devices: &Devices<'_>, token: &str, form: Form, prefix: &str) -> Option<String> {
    let mut changed = false;
    let parts: Vec<String> = token
        .split(',')
        .map(|part| match stable_part(devices, part, form, prefix) {
            Some(new) => {
                changed = true;
                new
            }
            None => part.to_owned(),
        })
        .collect();
    changed.then(|| parts.join(","))
}

fn stable_part(devices: &Devices<'_>, part: &str, form: Form, prefix: &str) -> Option<String> {
    let (keys, value) = part.rsplit_once('=')?;
    let key = keys.rsplit('=').next()?;
    if !DEVICE_KEYS.contains(&key.to_ascii_lowercase().as_str()) {
        return None;
    }
    // A by-path name has colons of its own, so the longest name that means something is taken.
    let ends = value.match_indices(':').map(|(at, _)| at).chain([value.len()]);
    for end in ends.collect::<Vec<_>>().into_iter().rev() {
        let (spec, tail) = value.split_at_checked(end)?;
        if let Some(stable) = devices.stable(spec, None, form, prefix) {
            return Some(format!("{keys}={stable}{tail}"));
        }
    }
    None
}

/// `console=ttyS0` for Xen's consoles, which KVM has not; dropped where ttyS0 is there already.
pub(crate) fn console_line(text: &str) -> Option<String> {
    let serial = text.split(is_boundary).any(|token| token == "console=ttyS0" || token.starts_with("console=ttyS0,"));
    map_tokens(text, |token| {
        let console = token.strip_prefix("console=")?;
        let name = console.split(',').next()?;
        let xen = matches!(name, "hvc0" | "xvc0" | "hvc" | "xvc");
        xen.then(|| if serial { String::new() } else { "console=ttyS0".to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_keep_what_is_between_them() {
        let text = "GRUB_CMDLINE_LINUX=\"quiet  root=a\troot=b\" # 'x'\n";
        let new = map_tokens(text, |token| (token == "root=b").then(|| "root=c".into())).unwrap();
        assert_eq!(new, text.replace("root=b", "root=c"));
        assert_eq!(map_tokens(text, |_| None), None);
    }

    #[test]
    fn xens_console_becomes_the_serial_one() {
        assert_eq!(console_line("ro console=hvc0 quiet").as_deref(), Some("ro console=ttyS0 quiet"));
        assert_eq!(console_line("console=ttyS0,115200 console=hvc0").as_deref(), Some("console=ttyS0,115200 "));
        assert_eq!(console_line("console=tty0 console=ttyS0"), None);
    }
}
