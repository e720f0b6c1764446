//! The network of the agent's own system: links, VLANs, bonds, addresses, DHCP.
//!
//! Done with `ip` of iproute2 and `udhcpc` of busybox, which stays in the background for its lease. What was set up is
//! noted in `/run/p2v/net.state`; the next [`configure`] takes it back first, also after a restart of the agent.
//! IPv6 comes by router advertisements, which the kernel follows by itself; their name servers are not taken.

mod apply;
mod dhcp;
mod runner;
mod state;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::runner::{Host, Runner};
use crate::app::{InterfaceView, NetworkView};
use crate::config::InterfaceConfig;

/// How long a link may take to come up after its interface was switched on: autonegotiation of copper takes 2 to 5 s.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long the other interfaces are waited for once one has a link.
const CARRIER_GRACE: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(200);

/// Why the network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed.
    #[error("{command}: {problem}")]
    Command {
        /// What was run.
        command: String,
        /// The last line that it said, or its exit code.
        problem: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An interface is not there.
    #[error("no interface `{wanted}` is there; there are: {present}")]
    NoInterface {
        /// Name or MAC that was asked for.
        wanted: String,
        /// What is there.
        present: String,
    },
    /// No interface has a link.
    #[error("no network interface has a link: check the cables, and whether a driver is missing")]
    NoLink,
    /// Nobody gave an address.
    #[error(
        "no address by DHCP or router advertisement on {0}; it is still tried, or set a static address"
    )]
    NoAddress(String),
    /// The wish makes no sense.
    #[error("{0}")]
    Invalid(String),
}

/// Where things are; the tests put them elsewhere.
#[derive(Clone, Debug)]
struct Places {
    run: PathBuf,
    sys_class_net: PathBuf,
    resolv_conf: PathBuf,
    carrier_timeout: Duration,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            run: "/run/p2v".into(),
            sys_class_net: "/sys/class/net".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            carrier_timeout: CARRIER_TIMEOUT,
        }
    }
}

struct Net<'a> {
    runner: &'a dyn Runner,
    places: Places,
}

/// One set-up at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Takes back what was set up before, and sets up these interfaces; none: DHCP on every interface with a link. Blocks
/// until each has an address or a few tries failed, at most about 25 s; leases are tried for and kept in the background.
///
/// # Errors
/// The first thing that failed; what could be set up is.
pub fn configure(wanted: &[InterfaceConfig]) -> Result<(), Error> {
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Net::host().configure(wanted)
}

/// The interfaces as they are now, without the loopback.
pub fn view() -> NetworkView {
    match Net::host().interfaces() {
        Ok(interfaces) => NetworkView {
            interfaces,
            ..NetworkView::default()
        },
        Err(error) => NetworkView {
            error: Some(error.to_string()),
            ..NetworkView::default()
        },
    }
}

/// Waits until an interface has an address that is more than link-local.
///
/// # Errors
/// When none has after `timeout`, or the interfaces cannot be read.
pub fn wait_up(timeout: Duration) -> Result<(), Error> {
    Net::host().wait_up(timeout)
}

/// One link as `ip -json address` prints it.
#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    addr_info: Vec<LinkAddress>,
}

#[derive(Deserialize)]
struct LinkAddress {
    #[serde(default)]
    local: String,
    #[serde(default)]
    prefixlen: u8,
    #[serde(default)]
    scope: String,
    /// Duplicate address detection is not through.
    #[serde(default)]
    tentative: bool,
}

impl Net<'static> {
    fn host() -> Self {
        Self {
            runner: &Host,
            places: Places::default(),
        }
    }
}

impl Net<'_> {
    fn interfaces(&self) -> Result<Vec<InterfaceView>, Error> {
        let argv = ["ip", "-json", "address", "show"];
        let text = self.runner.run(&argv)?;
        let links: Vec<Link> = serde_json::from_str(&text).map_err(|error| Error::Command {
            command: argv.join(" "),
            problem: format!("expected JSON: {error}"),
        })?;
        let shown = links.into_iter().filter(|link| link.ifname != "lo");
        Ok(shown.map(Link::view).collect())
    }

    fn wait_up(&self, timeout: Duration) -> Result<(), Error> {
        let until = Instant::now() + timeout;
        loop {
            let interfaces = self.interfaces()?;
            if interfaces.iter().any(|i| !i.addresses.is_empty()) {
                return Ok(());
            }
            if Instant::now() >= until {
                let linked: Vec<String> = interfaces
                    .into_iter()
                    .filter(|interface| interface.link)
                    .map(|interface| interface.name)
                    .collect();
                return Err(match linked.as_slice() {
                    [] => Error::NoLink,
                    names => Error::NoAddress(names.join(", ")),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Those of `names` that have a link, after they had time to get one.
    fn wait_carrier(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let mut until = Instant::now() + self.places.carrier_timeout;
        let mut first = true;
        loop {
            let interfaces = self.interfaces()?;
            let linked: Vec<String> = names
                .iter()
                .filter(|name| interfaces.iter().any(|i| i.name == **name && i.link))
                .cloned()
                .collect();
            if linked.len() == names.len() || Instant::now() >= until {
                return Ok(linked);
            }
            if first && !linked.is_empty() {
                first = false;
                until = until.min(Instant::now() + CARRIER_GRACE);
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Link {
    fn view(self) -> InterfaceView {
        let global = self
            .addr_info
            .into_iter()
            .filter(|address| address.scope == "global" && !address.tentative);
        InterfaceView {
            link: self.flags.iter().any(|flag| flag == "LOWER_UP"),
            addresses: global
                .map(|address| format!("{}/{}", address.local, address.prefixlen))
                .collect(),
            name: self.ifname,
        }
    }
}
