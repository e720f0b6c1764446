//! libosinfo's ids of distributions: what a domain's metadata names the guest by.

use crate::linux::os_release::OsRelease;

/// For what its database does not know (osinfo-db, `os/libosinfo.org`).
const GENERIC: &str = "http://libosinfo.org/linux/2022";

/// libosinfo's id of this release, by the pattern that its database follows; else that of the nearest relative it
/// knows, else that of any Linux. `None` for what does not say what it is.
pub(crate) fn osinfo_id(release: &OsRelease) -> Option<String> {
    if release.id.is_empty() || release.id == "linux" {
        return None;
    }
    Some(
        own(release)
            .or_else(|| relative(release))
            .unwrap_or_else(|| GENERIC.into()),
    )
}

/// The entry of the distribution itself.
fn own(release: &OsRelease) -> Option<String> {
    let version = release.version.as_str();
    let major = release.major();
    let some = |text: &str| Some(format!("http://{text}"));
    let numbered = |text: &str| (major > 0).then(|| format!("http://{text}/{major}"));
    // Entries that have a minor number.
    let two = |text: &str| {
        let mut parts = version.split('.');
        Some(format!("http://{text}/{}.{}", parts.next()?, parts.next()?))
    };
    match release.id.as_str() {
        "debian" if version.is_empty() => some("debian.org/debian/testing"),
        // Up to 6 the database has one entry per major release too.
        "debian" => numbered("debian.org/debian"),
        "kali" => some("debian.org/debian/testing"),
        "ubuntu" => two("ubuntu.com/ubuntu"),
        "linuxmint" => mint(release, major),
        "fedora" => numbered("fedoraproject.org/fedora"),
        "rhel" => two("redhat.com/rhel"),
        "centos" if release.pretty.contains("Stream") => numbered("centos.org/centos-stream"),
        "centos" if major >= 8 => numbered("centos.org/centos"),
        "centos" if major == 7 => some("centos.org/centos/7.0"),
        "centos" => two("centos.org/centos"),
        "rocky" => numbered("rockylinux.org/rocky"),
        "almalinux" => numbered("almalinux.org/almalinux"),
        "ol" => two("oracle.com/ol"),
        "scientific" => two("scientificlinux.org/scientificlinux"),
        "opensuse-leap" | "opensuse" => two("opensuse.org/opensuse"),
        "opensuse-tumbleweed" | "opensuse-microos" => some("opensuse.org/opensuse/tumbleweed"),
        "sles" | "sled" | "sles_sap" if major >= 15 => {
            Some(format!("http://suse.com/sle/{version}"))
        }
        "sles" | "sles_sap" if major > 0 => Some(format!("http://suse.com/sles/{version}")),
        "sled" if major > 0 => Some(format!("http://suse.com/sled/{version}")),
        "sle-micro" | "sl-micro" | "suse-microos" => two("suse.com/slem"),
        "arch" => some("archlinux.org/archlinux/rolling"),
        "alpine" => two("alpinelinux.org/alpinelinux"),
        "gentoo" => some("gentoo.org/gentoo/rolling"),
        "void" => some("voidlinux.org/voidlinux/rolling"),
        "nixos" => two("nixos.org/nixos"),
        "altlinux" if major >= 8 => numbered("altlinux.org/alt").map(|id| id + ".0"),
        "altlinux" if major > 0 => numbered("altlinux.org/altlinux").map(|id| id + ".0"),
        "slackware" => two("slackware.com/slackware"),
        "mageia" => numbered("mageia.org/mageia"),
        "manjaro" => some("manjaro.org/manjaro/rolling"),
        _ => None,
    }
}

/// Mint is a Ubuntu LTS with another face; its Debian edition (LMDE) a Debian.
fn mint(release: &OsRelease, major: u32) -> Option<String> {
    if release.pretty.starts_with("LMDE") {
        return (major >= 2).then(|| format!("http://debian.org/debian/{}", major + 6));
    }
    (major >= 17).then(|| format!("http://ubuntu.com/ubuntu/{}.04", 14 + 2 * (major - 17)))
}

/// The entry of what the distribution is made like.
fn relative(release: &OsRelease) -> Option<String> {
    let major = release.major();
    let like = |name: &str| release.id == name || release.like.iter().any(|like| like == name);
    let text = match (release.id.as_str(), major) {
        // Amazon Linux 2 is near to RHEL 7, 2023 to the Fedoras that RHEL 9 was made of.
        ("amzn", 2) => "http://centos.org/centos/7.0".to_owned(),
        ("amzn", 2022..) => "http://centos.org/centos-stream/9".to_owned(),
        ("amzn", _) => "http://centos.org/centos/6.10".to_owned(),
        _ if like("ubuntu") => return None,
        _ if like("rhel") || like("centos") => match major {
            8.. => format!("http://centos.org/centos-stream/{major}"),
            7 => "http://centos.org/centos/7.0".to_owned(),
            6 => "http://centos.org/centos/6.10".to_owned(),
            5 => "http://centos.org/centos/5.11".to_owned(),
            _ => return None,
        },
        _ if like("arch") => "http://archlinux.org/archlinux/rolling".to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: &str, like: &str, version: &str, pretty: &str) -> String {
        let release = OsRelease {
            id: id.into(),
            like: like.split_whitespace().map(str::to_owned).collect(),
            version: version.into(),
            pretty: pretty.into(),
        };
        let id = osinfo_id(&release).unwrap_or_default();
        id.trim_start_matches("http://").to_owned()
    }

    #[test]
    fn distributions_have_the_ids_of_libosinfo() {
        for (name, like, version, pretty, want) in [
            ("debian", "", "13", "Debian", "debian.org/debian/13"),
            (
                "kali",
                "debian",
                "2024.1",
                "Kali",
                "debian.org/debian/testing",
            ),
            (
                "linuxmint",
                "ubuntu debian",
                "21.3",
                "Linux Mint 21.3",
                "ubuntu.com/ubuntu/22.04",
            ),
            (
                "linuxmint",
                "debian",
                "6",
                "LMDE 6 (faye)",
                "debian.org/debian/12",
            ),
            ("rhel", "fedora", "9.4", "RHEL", "redhat.com/rhel/9.4"),
            (
                "centos",
                "rhel fedora",
                "9",
                "CentOS Stream 9",
                "centos.org/centos-stream/9",
            ),
            ("ol", "fedora", "8.10", "Oracle", "oracle.com/ol/8.10"),
            (
                "amzn",
                "centos rhel fedora",
                "2",
                "Amazon Linux 2",
                "centos.org/centos/7.0",
            ),
            (
                "amzn",
                "fedora",
                "2023",
                "Amazon Linux 2023",
                "centos.org/centos-stream/9",
            ),
            (
                "anolis",
                "rhel fedora centos",
                "8.8",
                "Anolis",
                "centos.org/centos-stream/8",
            ),
            (
                "openEuler",
                "",
                "22.03",
                "openEuler",
                "libosinfo.org/linux/2022",
            ),
            ("photon", "", "5.0", "Photon", "libosinfo.org/linux/2022"),
            ("sles", "suse", "12.5", "SLES", "suse.com/sles/12.5"),
            ("sles", "suse", "15.5", "SLES", "suse.com/sle/15.5"),
            ("sle-micro", "suse", "5.2", "SLE Micro", "suse.com/slem/5.2"),
            (
                "opensuse-microos",
                "suse",
                "20240101",
                "MicroOS",
                "opensuse.org/opensuse/tumbleweed",
            ),
            ("gentoo", "", "2.15", "Gentoo", "gentoo.org/gentoo/rolling"),
            ("void", "", "", "Void", "voidlinux.org/voidlinux/rolling"),
            ("nixos", "", "23.11", "NixOS", "nixos.org/nixos/23.11"),
            ("altlinux", "", "10.2", "ALT", "altlinux.org/alt/10.0"),
            (
                "manjaro",
                "arch",
                "",
                "Manjaro",
                "manjaro.org/manjaro/rolling",
            ),
            (
                "endeavouros",
                "arch",
                "",
                "EndeavourOS",
                "archlinux.org/archlinux/rolling",
            ),
            ("linux", "", "", "", ""),
        ] {
            assert_eq!(id(name, like, version, pretty), want, "{name} {version}");
        }
    }
}
