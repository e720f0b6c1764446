//! What an administrator should know of a Windows guest before its conversion: a table of looks, each at one thing, none of
//! which changes anything. What the conversion settles by itself is no concern.

mod policy;
mod software;
mod state;
mod storage;

use std::cmp::Reverse;

use types::{Concern, GuestInfo, Severity, StorageMap, WindowsInfo};

use crate::Root;
use crate::windows::hibernation;
use crate::windows::inspect::reader::{Keys, Reader};

/// What the looks have before them.
struct Look<'a> {
    root: &'a Root,
    guest: &'a GuestInfo,
    windows: &'a WindowsInfo,
    storage: &'a StorageMap,
    reader: &'a Reader<'a>,
    /// Folders with a registry on its volume.
    roots: &'a [String],
}

/// All of them.
const LOOKS: &[fn(&Look<'_>, &mut Found)] = &[
    state::versions,
    state::several,
    state::updates,
    state::setup,
    state::boot,
    state::adapters,
    policy::drivers,
    policy::code_integrity,
    policy::domain_controller,
    policy::bitlocker,
    policy::secure_boot,
    policy::licence,
    storage::filters,
    storage::multipath,
    storage::disks,
    storage::page_files,
    storage::shadow_copies,
    storage::iscsi,
    software::antivirus,
    software::cluster,
];

/// Collects concerns.
#[derive(Default)]
struct Found(Vec<Concern>);

impl Found {
    fn add(&mut self, severity: Severity, what: impl Into<String>, fix: &str) {
        self.0.push(Concern {
            severity,
            what: what.into(),
            fix: (!fix.is_empty()).then(|| fix.to_owned()),
        });
    }

    fn info(&mut self, what: impl Into<String>, fix: &str) {
        self.add(Severity::Info, what, fix);
    }

    fn warning(&mut self, what: impl Into<String>, fix: &str) {
        self.add(Severity::Warning, what, fix);
    }
}

/// The concerns about a guest, the worst first.
pub(crate) fn concerns(
    root: &Root,
    storage: &StorageMap,
    reader: &Reader<'_>,
    guest: &GuestInfo,
    roots: &[String],
) -> Vec<Concern> {
    let Some(windows) = &guest.windows else {
        return Vec::new();
    };
    let look = Look {
        root,
        guest,
        windows,
        storage,
        reader,
        roots,
    };
    let mut found = Found::default();
    found.0.extend(hibernation::concern(root, reader, windows));
    for entry in LOOKS {
        entry(&look, &mut found);
    }
    found.0.sort_by_key(|concern| Reverse(concern.severity));
    found.0
}

impl<'a> Look<'a> {
    fn control(&self) -> Keys<'a> {
        self.reader.control()
    }

    fn software(&self) -> Keys<'a> {
        self.reader.software()
    }

    /// True when there is such a service or driver, and it is not disabled (Start 4).
    fn starts(&self, service: &str) -> bool {
        let key = format!("Services\\{service}");
        let control = self.control();
        control.has(&key) && control.number(&key, "Start").is_some_and(|start| start < 4)
    }

    /// What people call those of these services that start: `(service, name)`, each name once.
    fn started<'n>(&self, services: &[(&str, &'n str)]) -> Vec<&'n str> {
        let mut names: Vec<&str> = Vec::new();
        for (service, name) in services {
            if !names.contains(name) && self.starts(service) {
                names.push(name);
            }
        }
        names
    }
}
