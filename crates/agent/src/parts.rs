//! The one place where the core meets inventory/, net/, ui/ and init/.

use std::time::Duration;

use wire::inventory::Inventory;

use crate::app::{Handle, NetworkView};
use crate::config::InterfaceConfig;
use crate::ui::Screens;
use crate::{init, inventory, net, ui};

/// Leases come late from switches that are still learning.
const NETWORK_PATIENCE: Duration = Duration::from_secs(30);

/// What this machine is.
pub(crate) fn detect() -> Inventory {
    inventory::detect(&inventory::Paths::default())
}

/// Sets the network up and waits until it is.
pub(crate) fn configure(interfaces: &[InterfaceConfig]) -> Result<(), String> {
    net::configure(interfaces)
        .and_then(|()| net::wait_up(NETWORK_PATIENCE))
        .map_err(|error| error.to_string())
}

/// The network as it is.
pub(crate) fn network() -> NetworkView {
    net::view()
}

/// Starts the screens on every console.
pub(crate) fn screens(handle: &Handle) -> Option<Screens> {
    match ui::run(init::consoles(), handle) {
        Ok(screens) => Some(screens),
        Err(error) => {
            tracing::error!("starting the screens: {error}");
            None
        }
    }
}
