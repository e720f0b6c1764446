//! Which names of an .inf become names of files, services, keys and devices. What is not plainly one is refused: an .inf
//! is a file from outside.

use crate::{Error, ErrorKind, Result};

/// Longer names of services and files are refused; those of virtio-win have at most 20 characters.
const NAME_MAX: usize = 64;
/// MAX_DEVICE_ID_LEN (cfgmgr32.h).
const ID_MAX: usize = 200;
/// A key's name has at most 255 characters (Microsoft Learn, "Registry element size limits").
const KEY_MAX: usize = 255;
/// Keys below keys that an .inf makes.
const DEPTH_MAX: usize = 8;
/// A value's text; those of virtio-win have fewer than 100 characters.
const TEXT_MAX: usize = 4096;

/// A name of a service or a file: letters, digits, `_`, `-` and `.` within.
pub(super) fn plain(what: &str, name: &str) -> Result<String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let ok = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(inner)
        && !name.starts_with('.')
        && !name.ends_with('.');
    if ok {
        Ok(name.to_owned())
    } else {
        Err(refused(what, name))
    }
}

/// [`plain`] with this extension.
pub(super) fn file(what: &str, name: &str, extension: &str) -> Result<String> {
    let name = plain(what, name)?;
    match name.rsplit_once('.') {
        Some((stem, own)) if !stem.is_empty() && own.eq_ignore_ascii_case(extension) => Ok(name),
        _ => Err(refused(what, &name)),
    }
}

/// A device id of a PCI device (`PCI\VEN_1AF4&DEV_1001`). A class of devices is none: a driver must not be given others'.
pub(super) fn device_id(id: &str) -> Result<String> {
    let rest = id
        .get(..8)
        .filter(|bus| bus.eq_ignore_ascii_case("PCI\\VEN_"))
        .and_then(|_| id.get(8..));
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_&".contains(&byte);
    match rest {
        Some(rest) if id.len() <= ID_MAX && !rest.is_empty() && rest.bytes().all(inner) => {
            Ok(id.to_owned())
        }
        _ => Err(refused("the id of a PCI device", id)),
    }
}

/// A path of keys, perhaps empty.
pub(super) fn key(path: &str) -> Result<String> {
    let bad = |part: &str| {
        part.is_empty() || part.chars().count() > KEY_MAX || part.contains(char::is_control)
    };
    if path.is_empty() {
        return Ok(String::new());
    }
    if path.split('\\').count() > DEPTH_MAX || path.split('\\').any(bad) {
        return Err(refused("a path of registry keys", path));
    }
    Ok(path.to_owned())
}

/// A value's name or text.
pub(super) fn text(what: &str, text: &str) -> Result<String> {
    if text.chars().count() > TEXT_MAX || text.contains(char::is_control) {
        return Err(refused(what, text));
    }
    Ok(text.to_owned())
}

fn refused(what: &str, found: &str) -> Error {
    let shown: String = found.chars().take(NAME_MAX).collect();
    let message = format!("expected {what} in the driver's .inf, found {shown:?}");
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_become_paths() {
        assert_eq!(
            file("a driver", "viostor.sys", "sys").unwrap(),
            "viostor.sys"
        );
        let long = "x".repeat(1 << 20);
        for name in [
            "", ".", "..", "a\\b", "a/b", "a:b", "a b", "a.", "\u{430}", &long,
        ] {
            assert!(plain("a service", name).is_err(), "{name:.9}");
        }
        for name in ["viostor", ".sys", "..\\x.sys", "x.sys:y.sys", "x.exe"] {
            assert!(file("a driver", name, "sys").is_err(), "{name}");
        }
    }

    #[test]
    fn only_single_pci_devices_are_driven() {
        assert!(device_id("PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00").is_ok());
        for id in [
            "PCI\\CC_0101",
            "PCI\\VEN_",
            "PCI\\VEN_1AF4\\..\\x",
            "*PNP0A03",
            "PCI\\VEN_#",
        ] {
            assert!(device_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn keys_are_bounded() {
        assert_eq!(
            key("Parameters\\PnpInterface").unwrap(),
            "Parameters\\PnpInterface"
        );
        for path in [
            "\\a",
            "a\\\\b",
            "a\\",
            "a\u{0}b",
            &"a\\".repeat(9),
            &"k".repeat(256),
        ] {
            assert!(key(path).is_err(), "{path:.9}");
        }
    }
}
