//! References from a descriptor to the files beside it. They may name a file in the descriptor's own folder or
//! below it, and nothing else.

use crate::error::{Error, ErrorKind, Result, shown};

/// The names that a reference can mean, most literal first: exporters write some characters (a space, an umlaut)
/// as they are and others percent-encoded as the specification wants it (DSP0243 1.1.0, 7.1: `href` is a URI).
/// Each is relative, without `.` and `..` and empty components.
pub(crate) fn candidates(href: &str) -> Result<Vec<String>> {
    let literal = contained(href)?;
    let mut names = vec![literal];
    if let Some(decoded) = percent_decode(href) {
        let decoded = contained(&decoded)?;
        if !names.contains(&decoded) {
            names.push(decoded);
        }
    }
    Ok(names)
}

/// Refuses what leaves the folder, and tidies the rest.
fn contained(href: &str) -> Result<String> {
    let lower = href.trim_start().to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        let message = format!(
            "the reference `{}` is remote; fetching over the network is not supported",
            shown(href)
        );
        return Err(Error::unsupported(message));
    }
    if lower.starts_with("file:") || lower.contains("://") {
        let message = format!(
            "expected a file of the package, found the URL `{}`",
            shown(href)
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    let drive = matches!(lower.as_bytes(), [b'a'..=b'z', b':', ..]);
    if lower.starts_with(['/', '\\']) || drive {
        let message = format!(
            "the reference `{}` is absolute; only files of the package are read",
            shown(href)
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    if href.split(['/', '\\']).any(|part| part == "..") {
        let message = format!(
            "the reference `{}` leaves the folder of the descriptor",
            shown(href)
        );
        return Err(Error::new(ErrorKind::Refused, message));
    }
    if href.contains('\0') {
        return Err(Error::corrupt(format!(
            "the reference `{}` contains a zero byte",
            shown(href)
        )));
    }
    match tidy(href) {
        Some(name) => Ok(name),
        None => Err(Error::corrupt(
            "expected the name of a file, found an empty reference",
        )),
    }
}

/// Joins the components of a relative name again without `.` and empty ones; nothing left is `None`.
pub(crate) fn tidy(name: &str) -> Option<String> {
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The text with its `%XX` decoded; `None` when there are none or they are no valid UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let mut changed = false;
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |index: usize| tail.get(index).and_then(|&b| char::from(b).to_digit(16));
        let value = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        if let Some(value) = value {
            out.push(value);
            rest = tail.get(2..).unwrap_or_default();
            changed = true;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    if changed {
        String::from_utf8(out).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_is_itself_and_an_encoded_one_is_both() {
        assert_eq!(candidates("disk-0.vmdk").unwrap(), ["disk-0.vmdk"]);
        assert_eq!(candidates("./sub//disk.vmdk").unwrap(), ["sub/disk.vmdk"]);
        assert_eq!(
            candidates("my%20disk.vmdk").unwrap(),
            ["my%20disk.vmdk", "my disk.vmdk"]
        );
        assert_eq!(candidates("100%.vmdk").unwrap(), ["100%.vmdk"]);
    }

    #[test]
    fn nothing_leaves_the_folder() {
        let hostile = [
            "/etc/passwd",
            "../x",
            "a/../../x",
            "..",
            "%2e%2e/x",
            "%2Fetc/passwd",
            "..\\x",
            "C:\\x",
            "\\\\host\\x",
            "file:///etc/passwd",
            "ftp://host/x",
        ];
        for href in hostile {
            assert_eq!(
                candidates(href).unwrap_err().kind(),
                ErrorKind::Refused,
                "{href}"
            );
        }
        for href in ["http://host/x.vmdk", "HTTPS://host/x.vmdk"] {
            assert_eq!(
                candidates(href).unwrap_err().kind(),
                ErrorKind::Unsupported,
                "{href}"
            );
        }
        for href in ["", ".", "./", "a%00b"] {
            assert_eq!(
                candidates(href).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{href}"
            );
        }
    }
}
