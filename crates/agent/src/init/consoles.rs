//! Which consoles there are, and saying something on all of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::ui::{Console, ConsoleKind};

/// Consoles that are used; `console=` can be given only a few times.
const MAX_CONSOLES: usize = 8;

/// The consoles of the kernel (`console=` words, or its own choice), and the first virtual terminal where there are any.
pub fn consoles() -> Vec<Console> {
    found(Path::new("/sys/class/tty"), Path::new("/dev"))
}

fn found(sys_class_tty: &Path, dev: &Path) -> Vec<Console> {
    let active = fs::read_to_string(sys_class_tty.join("console/active")).unwrap_or_default();
    let has_screen = sys_class_tty.join("tty1").exists();
    let screen = has_screen.then_some("tty1");
    let mut consoles: Vec<Console> = Vec::new();
    for name in screen.into_iter().chain(active.split_whitespace()) {
        let Some((path, kind)) = device(name, dev) else {
            continue;
        };
        if path.exists() && !consoles.iter().any(|c| c.path == path) {
            consoles.push(Console { path, kind });
        }
    }
    consoles.truncate(MAX_CONSOLES);
    consoles
}

/// The device of a console's name; `tty0` is whichever terminal is in front: the first.
fn device(name: &str, dev: &Path) -> Option<(PathBuf, ConsoleKind)> {
    let fine = name.bytes().all(|b| b.is_ascii_alphanumeric()) && name != "ttynull";
    let number = name.strip_prefix("tty").and_then(|n| n.parse::<u8>().ok());
    match number {
        _ if !fine => None,
        Some(0) => Some((dev.join("tty1"), ConsoleKind::Screen)),
        Some(_) => Some((dev.join(name), ConsoleKind::Screen)),
        None => Some((dev.join(name), ConsoleKind::Serial)),
    }
}

/// Writes one line on every console, as far as it is taken at once.
pub(super) fn say_everywhere(line: &str) {
    for console in consoles() {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
            .open(&console.path);
        if let Ok(mut file) = file {
            // Nobody else could be told.
            let _ = write!(file, "\r\n{}\r\n", line.replace('\n', "\r\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(active: &str, present: &[&str], has_screen: bool) -> Vec<(String, ConsoleKind)> {
        let root = tempfile::tempdir().unwrap();
        let (sys, dev) = (root.path().join("sys"), root.path().join("dev"));
        fs::create_dir_all(sys.join("console")).unwrap();
        fs::create_dir_all(&dev).unwrap();
        fs::write(sys.join("console/active"), active).unwrap();
        if has_screen {
            fs::create_dir_all(sys.join("tty1")).unwrap();
        }
        for name in present {
            fs::write(dev.join(name), "").unwrap();
        }
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        found(&sys, &dev)
            .into_iter()
            .map(|console| (name(&console.path), console.kind))
            .collect()
    }

    #[test]
    fn every_console_is_found_once() {
        let screen = ("tty1".to_owned(), ConsoleKind::Screen);
        let serial = |name: &str| (name.to_owned(), ConsoleKind::Serial);
        let dev = ["tty0", "tty1", "ttyS0", "ttyS1", "hvc0", "ttynull"];
        assert_eq!(
            machine("tty0 ttyS0\n", &dev, true),
            [screen.clone(), serial("ttyS0")]
        );
        assert_eq!(machine("ttyS1\n", &dev, false), [serial("ttyS1")]);
        assert_eq!(machine("ttyS0 tty0", &dev, true).len(), 2);
        assert_eq!(machine("hvc0 ttynull", &dev, false), [serial("hvc0")]);
        assert_eq!(machine("", &dev, true), [screen]);
        assert_eq!(machine("ttyS3 ../etc/passwd", &dev, false), []);
    }
}
