//! What the system calls itself: os-release(5), and its forerunners where there is none.

use crate::Root;

/// Identity of a distribution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OsRelease {
    pub(crate) id: String,
    pub(crate) like: Vec<String>,
    pub(crate) version: String,
    pub(crate) pretty: String,
}

impl OsRelease {
    /// Reads it from wherever the guest has it.
    pub(crate) fn read(root: &Root) -> Option<Self> {
        let modern = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .filter_map(|path| root.text(path))
            .map(|text| Self::parse(&text))
            .find(|release| !release.id.is_empty() || !release.pretty.is_empty());
        let old = || {
            from_redhat(root)
                .or_else(|| from_cpe(root))
                .or_else(|| from_suse(root))
                .or_else(|| from_lsb(root))
                .or_else(|| from_debian(root))
                .or_else(|| from_small(root))
        };
        let mut release = modern.or_else(old)?;
        if release.id.is_empty() {
            // The specification's default for a file without ID (os-release(5)).
            release.id = "linux".into();
        }
        if release.id == "debian" && release.version.is_empty() {
            // Testing and unstable have no VERSION_ID; debian_version says `trixie/sid`, or 7.11 where os-release is old.
            let debian = root.text("/etc/debian_version").unwrap_or_default();
            let major = debian.trim().split('.').next().unwrap_or_default();
            if !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit()) {
                major.clone_into(&mut release.version);
            }
        }
        Some(release)
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
                .next_back()
                .map(unquote)
                .unwrap_or_default()
        };
        let id = value("ID");
        let pretty = value("PRETTY_NAME");
        Self {
            like: value("ID_LIKE")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            version: value("VERSION_ID"),
            pretty: if pretty.is_empty() {
                value("NAME")
            } else {
                pretty
            },
            id,
        }
    }

    /// Major number of the version, 0 when there is none.
    pub(crate) fn major(&self) -> u32 {
        self.version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .unwrap_or(0)
    }
}

/// Undoes shell quoting as far as os-release(5) allows it.
pub(crate) fn unquote(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\'']
        .iter()
        .find_map(|&quote| {
            value
                .strip_prefix(quote)
                .and_then(|rest| rest.split(quote).next())
        })
        .unwrap_or(value);
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for character in inner.chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            out.push(character);
            escaped = false;
        }
    }
    out
}

/// `CentOS release 6.10 (Final)` and its like, before os-release (systemd 2012).
fn from_redhat(root: &Root) -> Option<OsRelease> {
    let text = root
        .text("/etc/redhat-release")
        .or_else(|| root.text("/etc/system-release"))?;
    let line = text.lines().next()?.trim().to_owned();
    let lower = line.to_lowercase();
    let (id, like) = [
        ("red hat", "rhel", "fedora"),
        ("centos", "centos", "rhel fedora"),
        ("scientific", "scientific", "rhel fedora"),
        ("oracle", "ol", "rhel fedora"),
        ("rocky", "rocky", "rhel fedora"),
        ("alma", "almalinux", "rhel fedora"),
        ("fedora", "fedora", ""),
    ]
    .into_iter()
    .find(|(word, ..)| lower.contains(word))
    .map_or(("redhat-based", "rhel fedora"), |(_, id, like)| (id, like));
    let version = line
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    Some(OsRelease {
        id: id.into(),
        like: like.split_whitespace().map(str::to_owned).collect(),
        version: version.unwrap_or_default().to_owned(),
        pretty: line,
    })
}

/// `cpe:/o:centos:linux:6:GA` (CPE 2.2: part, vendor, product, version).
fn from_cpe(root: &Root) -> Option<OsRelease> {
    let text = root.text("/etc/system-release-cpe")?;
    let mut fields = text.trim().strip_prefix("cpe:/o:")?.split(':');
    let (vendor, product, version) = (fields.next()?, fields.next()?, fields.next()?);
    let id = if vendor == "redhat" { "rhel" } else { vendor };
    Some(OsRelease {
        id: id.to_owned(),
        like: vec!["rhel".into(), "fedora".into()],
        version: version.to_owned(),
        pretty: format!("{vendor} {product} {version}"),
    })
}

fn from_lsb(root: &Root) -> Option<OsRelease> {
    let text = root.text("/etc/lsb-release")?;
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(unquote).unwrap_or_default()
    };
    let id = value("DISTRIB_ID").to_lowercase();
    (!id.is_empty()).then(|| OsRelease {
        id,
        like: Vec::new(),
        version: value("DISTRIB_RELEASE"),
        pretty: value("DISTRIB_DESCRIPTION"),
    })
}

fn from_debian(root: &Root) -> Option<OsRelease> {
    let version = root.text("/etc/debian_version")?.trim().to_owned();
    let major = version.split('.').next().unwrap_or_default();
    let numeric = !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit());
    Some(OsRelease {
        id: "debian".into(),
        like: Vec::new(),
        version: if numeric {
            major.to_owned()
        } else {
            String::new()
        },
        pretty: format!("Debian GNU/Linux {version}"),
    })
}

/// SuSE-release, up to SLES 12 and openSUSE 13: a name, then `VERSION = 11` and `PATCHLEVEL = 4`.
fn from_suse(root: &Root) -> Option<OsRelease> {
    let text = root.text("/etc/SuSE-release")?;
    let pretty = text.lines().next()?.trim().to_owned();
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.split_once('='));
        let found = values.find(|(name, _)| name.trim() == key);
        found.map(|(_, value)| value.trim().to_owned())
    };
    let lower = pretty.to_lowercase();
    let id = if lower.starts_with("opensuse") {
        "opensuse"
    } else if lower.contains("desktop") {
        "sled"
    } else {
        "sles"
    };
    let version = value("VERSION").unwrap_or_default();
    let patch = value("PATCHLEVEL").filter(|level| level != "0");
    Some(OsRelease {
        id: id.into(),
        like: vec!["suse".into()],
        version: patch.map_or_else(|| version.clone(), |patch| format!("{version}.{patch}")),
        pretty,
    })
}

/// Files of one line, or none, that name nothing but a version.
fn from_small(root: &Root) -> Option<OsRelease> {
    const FILES: [(&str, &str, &str); 7] = [
        ("/etc/alpine-release", "alpine", "Alpine Linux"),
        ("/etc/gentoo-release", "gentoo", "Gentoo"),
        ("/etc/slackware-version", "slackware", "Slackware"),
        ("/etc/arch-release", "arch", "Arch Linux"),
        ("/etc/photon-release", "photon", "VMware Photon OS"),
        ("/etc/altlinux-release", "altlinux", "ALT Linux"),
        ("/etc/mandriva-release", "mandriva", "Mandriva"),
    ];
    FILES.into_iter().find_map(|(path, id, name)| {
        let text = root.text(path)?;
        let line = text.lines().next().unwrap_or_default().trim().to_owned();
        let number = line
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        Some(OsRelease {
            id: id.into(),
            like: Vec::new(),
            // The base system of Gentoo has a number of its own.
            version: match id {
                "gentoo" | "arch" => String::new(),
                _ => number.unwrap_or_default().to_owned(),
            },
            pretty: if line.chars().any(char::is_alphabetic) {
                line
            } else {
                format!("{name} {line}").trim().to_owned()
            },
        })
    })
}
