//! What was set up, a line each, so that it can be taken back in the reverse order.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Error, Net};

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// A VLAN or bond was made.
    Link(String),
    /// A DHCP client was started there.
    Dhcp(String),
    /// A static address: interface, address with prefix length.
    Address(String, String),
    /// A default route: interface and gateway.
    Route(String, IpAddr),
}

impl Done {
    fn line(&self) -> String {
        match self {
            Self::Link(name) => format!("link {name}\n"),
            Self::Dhcp(name) => format!("dhcp {name}\n"),
            Self::Address(name, address) => format!("address {name} {address}\n"),
            Self::Route(name, gateway) => format!("route {name} {gateway}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(match words.as_slice() {
            ["link", name] => Self::Link((*name).to_owned()),
            ["dhcp", name] => Self::Dhcp((*name).to_owned()),
            ["address", name, address] => Self::Address((*name).to_owned(), (*address).to_owned()),
            ["route", name, gateway] => Self::Route((*name).to_owned(), gateway.parse().ok()?),
            _ => return None,
        })
    }
}

impl Net<'_> {
    fn state(&self) -> PathBuf {
        self.places.run.join("net.state")
    }

    /// Notes what is going to be done, before it is: so it is taken back even if the agent dies in between.
    pub(super) fn note(&self, done: &Done) -> Result<(), Error> {
        let path = self.state();
        let mut all = fs::read_to_string(&path).unwrap_or_default();
        all.push_str(&done.line());
        write(&path, &all)
    }

    /// Takes back everything noted. What cannot be taken back is gone already, with its interface.
    pub(super) fn undo(&self) {
        let noted = fs::read_to_string(self.state()).unwrap_or_default();
        for done in noted.lines().rev().filter_map(Done::parse) {
            self.undo_one(&done);
        }
        let _ = fs::remove_file(self.state());
    }

    fn undo_one(&self, done: &Done) {
        let run = |argv: &[&str]| {
            if let Err(error) = self.runner.run(argv) {
                tracing::debug!("taking back: {error}");
            }
        };
        match done {
            Done::Link(name) => run(&["ip", "link", "delete", "dev", name]),
            Done::Address(name, address) => {
                run(&["ip", "address", "delete", address, "dev", name]);
                let _ = fs::remove_file(self.name_servers(name));
            }
            Done::Route(name, gateway) => {
                let gateway_text = gateway.to_string();
                let family = super::apply::family(*gateway);
                run(&[
                    "ip",
                    family,
                    "route",
                    "delete",
                    "default",
                    "via",
                    &gateway_text,
                    "dev",
                    name,
                ]);
            }
            Done::Dhcp(name) => {
                let file = self.pid_file(name);
                let pid = fs::read_to_string(&file).ok();
                if let Some(pid) = pid.and_then(|text| text.trim().parse().ok()) {
                    self.runner.end_dhcp(pid);
                }
                let _ = fs::remove_file(file);
                let _ = fs::remove_file(self.name_servers(name));
                run(&["ip", "-4", "address", "flush", "dev", name]);
                run(&["ip", "-4", "route", "flush", "dev", name]);
            }
        }
    }
}

/// Writes a file and the folders above it.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .map_err(|source| Error::File {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_read_as_it_was_noted() {
        for done in [
            Done::Link("bond0".into()),
            Done::Dhcp("eth0".into()),
            Done::Address("eth0.7".into(), "192.0.2.7/24".into()),
            Done::Route("eth0".into(), "2001:db8::1".parse().unwrap()),
        ] {
            assert_eq!(Done::parse(&done.line()), Some(done));
        }
        for wrong in ["", "link", "route eth0 nowhere", "address a b c"] {
            assert_eq!(Done::parse(wrong), None);
        }
    }
}
