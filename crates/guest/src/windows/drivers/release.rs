//! What the names of directories say: which Windows and which processor the drivers below are for.
//!
//! The ISO of virtio-win calls them `w10` and `2k16`, its build trees `Wlh` and `Win7`.

use std::ops::Range;

use super::inf::Platform;

/// A Windows by the name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// As virtio-win calls it, lower case.
    pub(crate) name: &'static str,
    /// Major and minor version.
    pub(crate) version: (u32, u32),
    builds: Range<u32>,
    /// `None` for both.
    server: Option<bool>,
}

/// Every build of a version.
const ALL: Range<u32> = 0..u32::MAX;
const CLIENT: Option<bool> = Some(false);
const SERVER: Option<bool> = Some(true);

type Row = (&'static str, (u32, u32), Range<u32>, Option<bool>);

const RELEASES: &[Row] = &[
    ("2k", (5, 0), ALL, None),
    ("w2k", (5, 0), ALL, None),
    ("xp", (5, 1), ALL, CLIENT),
    ("wxp", (5, 1), ALL, CLIENT),
    ("2k3", (5, 2), ALL, None),
    ("wnet", (5, 2), ALL, None),
    ("vista", (6, 0), ALL, CLIENT),
    ("2k8", (6, 0), ALL, SERVER),
    ("wlh", (6, 0), ALL, None),
    ("w7", (6, 1), ALL, CLIENT),
    ("2k8r2", (6, 1), ALL, SERVER),
    ("win7", (6, 1), ALL, None),
    ("w8", (6, 2), ALL, CLIENT),
    ("2k12", (6, 2), ALL, SERVER),
    ("win8", (6, 2), ALL, None),
    ("w8.1", (6, 3), ALL, CLIENT),
    ("2k12r2", (6, 3), ALL, SERVER),
    ("win8.1", (6, 3), ALL, None),
    ("w10", (10, 0), 10240..22000, CLIENT),
    ("2k16", (10, 0), 14393..17763, SERVER),
    ("2k19", (10, 0), 17763..20348, SERVER),
    ("2k22", (10, 0), 20348..26100, SERVER),
    ("w11", (10, 0), 22000..u32::MAX, CLIENT),
    ("2k25", (10, 0), 26100..u32::MAX, SERVER),
    ("win10", (10, 0), 10240..22000, None),
    ("win11", (10, 0), 22000..u32::MAX, None),
];

impl Release {
    /// By the innermost directory of this path that is called after one.
    pub(crate) fn of_path(dir: &str) -> Option<Self> {
        dir.rsplit('/').find_map(|part| {
            let row = RELEASES
                .iter()
                .find(|(name, ..)| part.eq_ignore_ascii_case(name));
            row.map(|(name, version, builds, server)| Self {
                name,
                version: *version,
                builds: builds.clone(),
                server: *server,
            })
        })
    }

    /// It is that Windows. Before Windows 10, a client and the server of one version are the same system.
    pub(crate) fn covers(&self, platform: Platform) -> bool {
        self.version == platform.version()
            && self.builds.contains(&platform.build)
            && (platform.major < 10 || self.suits_kind(platform))
    }

    /// It came out after that Windows.
    pub(crate) fn is_newer_than(&self, platform: Platform) -> bool {
        (self.version, self.builds.start) > (platform.version(), platform.build)
    }

    /// Client or server, as that Windows.
    pub(crate) fn suits_kind(&self, platform: Platform) -> bool {
        self.server.is_none_or(|server| server == platform.server)
    }

    /// Its first build; 0 for those that have one only.
    pub(crate) fn build(&self) -> u32 {
        self.builds.start
    }
}

/// The processor that a directory of this path is called after, as decorations spell it.
pub(crate) fn arch_of_path(dir: &str) -> Option<&'static str> {
    dir.rsplit('/').find_map(|part| {
        Some(match part.to_ascii_lowercase().as_str() {
            "x86" | "i386" | "i686" | "win32" => "x86",
            "amd64" | "x64" | "x86_64" => "amd64",
            "arm64" | "aarch64" => "arm64",
            "ia64" => "ia64",
            _ => return None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_understood() {
        let win10 = Platform {
            arch: "amd64",
            major: 10,
            minor: 0,
            build: 19045,
            server: false,
        };
        let release = |dir| Release::of_path(dir).unwrap();
        assert!(release("viostor/W10/amd64").covers(win10));
        assert!(release("drivers/by-os/amd64/w10").covers(win10));
        assert!(release("w11/amd64").is_newer_than(win10));
        assert!(!release("2k19").covers(win10) && !release("2k19").is_newer_than(win10));
        assert!(Release::of_path("virtio-win-0.1.240/viostor").is_none());
        let server = Platform {
            server: true,
            ..win10
        };
        assert!(release("2k19").covers(server) && !release("w10").covers(server));
        assert_eq!(arch_of_path("amd64/w10"), Some("amd64"));
        assert_eq!(arch_of_path("viostor/w10/ARM64"), Some("arm64"));
        assert_eq!(arch_of_path("viostor/w10"), None);
    }
}
