//! Which interface had which MAC when the guest last ran, from what programs left behind: better than the order of
//! names where the configuration says nothing.

use types::MacAddr;

use crate::Root;
use crate::linux::os_release::unquote;

use super::found::{Configured, Found, Kind, files};

/// cloud-init prints a table of the interfaces at every start.
const CLOUD_INIT: &str = "/var/log/cloud-init-output.log";
/// kudzu of Red Hat up to 5: the hardware of the last start.
const HWCONF: &str = "/etc/sysconfig/hwconf";
/// Leases of dhclient, and of NetworkManager's own client.
const LEASES: [&str; 4] = [
    "/var/lib/dhcp",
    "/var/lib/dhclient",
    "/var/lib/dhcp3",
    "/var/lib/NetworkManager",
];

pub(super) fn read(root: &Root, found: &mut Found) {
    let mut pairs: Vec<(String, MacAddr, String)> = Vec::new();
    let log = root.text(CLOUD_INIT).unwrap_or_default();
    pairs.extend(
        log.lines()
            .filter_map(table)
            .map(|(name, mac)| (name, mac, CLOUD_INIT.into())),
    );
    let hwconf = root.text(HWCONF).unwrap_or_default();
    pairs.extend(
        hardware(&hwconf)
            .into_iter()
            .map(|(name, mac)| (name, mac, HWCONF.into())),
    );
    for (path, text) in files(root, &LEASES, &[".lease", ".leases"]) {
        if let Some((name, mac)) = lease(&path, &text) {
            pairs.push((name, mac, path));
        }
    }
    // The newest line of a log is the last.
    for (name, mac, file) in pairs.into_iter().rev() {
        let known = found.entries.iter().any(|entry| {
            entry.kind == Kind::Seen
                && (entry.mac == Some(mac) || entry.name.as_deref() == Some(name.as_str()))
        });
        if !known {
            found.add(Configured {
                name: Some(name),
                mac: Some(mac),
                file,
                kind: Kind::Seen,
                ..Configured::default()
            });
        }
    }
}

/// `ci-info: | ens192 | True | 10.0.0.2 | 255.255.255.0 | global | 00:50:56:00:00:01 |`
fn table(line: &str) -> Option<(String, MacAddr)> {
    let cells: Vec<&str> = line
        .trim()
        .strip_prefix("ci-info:")?
        .split('|')
        .map(str::trim)
        .collect();
    let mac = cells.iter().rev().find_map(|cell| cell.parse().ok())?;
    let name = cells.get(1).filter(|name| !name.is_empty())?;
    Some(((*name).to_owned(), mac))
}

/// Blocks between lines of a dash: `class: NETWORK`, `device: eth0`, `network.hwaddr: 00:0c:29:…`.
fn hardware(text: &str) -> Vec<(String, MacAddr)> {
    let value = |block: &str, key: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned()))
    };
    text.split("\n-\n")
        .filter_map(|block| {
            Some((
                value(block, "device:")?,
                value(block, "network.hwaddr:")?.parse().ok()?,
            ))
        })
        .collect()
}

/// dhclient: `interface "ens192";` and `option dhcp-client-identifier 1:0:50:56:0:0:1;`. NetworkManager:
/// `internal-UUID-ens192.lease` with `CLIENTID=01005056000001`. Type 1 is Ethernet (RFC 2132, section 9.14).
fn lease(path: &str, text: &str) -> Option<(String, MacAddr)> {
    let octets = |hex: Vec<&str>| {
        let bytes: Vec<u8> = hex
            .into_iter()
            .map(|part| u8::from_str_radix(part, 16))
            .collect::<Result<_, _>>()
            .ok()?;
        match bytes.as_slice() {
            [1, mac @ ..] => Some(MacAddr(mac.try_into().ok()?)),
            _ => None,
        }
    };
    let mut found = None;
    for line in text.lines().map(|line| line.trim().trim_end_matches(';')) {
        if let Some(id) = line.strip_prefix("option dhcp-client-identifier ") {
            found = octets(id.split(':').collect()).or(found);
        } else if let Some(id) = line.strip_prefix("CLIENTID=").filter(|id| id.is_ascii()) {
            let hex = (0..id.len())
                .step_by(2)
                .filter_map(|at| id.get(at..at + 2))
                .collect();
            found = octets(hex).or(found);
        }
    }
    let mac = found?;
    let said = text.lines().rev().find_map(|line| {
        let name = line.trim().strip_prefix("interface ")?;
        Some(unquote(name.trim_end_matches(';')))
    });
    let of_file = || {
        let stem = path
            .rsplit('/')
            .next()?
            .strip_prefix("internal-")?
            .strip_suffix(".lease")?;
        // A UUID has 36 characters.
        Some(stem.get(37..)?.to_owned())
    };
    Some((said.or_else(of_file)?, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trace_is_read() {
        let mac: MacAddr = "00:50:56:00:00:01".parse().unwrap();
        assert_eq!(
            table(
                "ci-info: | ens192 | True | 10.0.0.2 | 255.255.255.0 | global | 00:50:56:00:00:01 |"
            ),
            Some(("ens192".into(), mac))
        );
        assert_eq!(
            table("ci-info: |   lo   | True | 127.0.0.1 | 255.0.0.0 | host | . |"),
            None
        );
        let hwconf = "-\nclass: OTHER\ndevice: x\n-\nclass: NETWORK\nbus: PCI\ndevice: eth0\ndriver: e1000\nnetwork.hwaddr: 00:50:56:00:00:01\n-\nclass: NETWORK\n";
        assert_eq!(hardware(hwconf), [("eth0".into(), mac)]);
        let dhclient = "lease {\n  interface \"ens192\";\n  option dhcp-client-identifier 1:0:50:56:0:0:1;\n}\n";
        assert_eq!(lease("/x.leases", dhclient), Some(("ens192".into(), mac)));
        let internal =
            "/var/lib/NetworkManager/internal-8a1c9a0e-0000-4000-8000-000000000001-ens192.lease";
        assert_eq!(
            lease(internal, "ADDRESS=10.0.0.2\nCLIENTID=01005056000001\n"),
            Some(("ens192".into(), mac))
        );
        for odd in [
            "CLIENTID=\u{e9}1",
            "CLIENTID=0",
            "CLIENTID=ff00",
            "option dhcp-client-identifier ::;",
            "",
        ] {
            assert_eq!(lease("/internal-x.lease", odd), None, "{odd}");
        }
    }
}
