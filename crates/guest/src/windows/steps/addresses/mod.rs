//! Static addresses, given to the new adapters by their hardware addresses.
//!
//! A new bus makes new adapters for Windows: the old ones keep their configuration and are gone. What they had is read
//! offline and written into a plan; the first-boot program waits for the new adapters, frees what the vanished ones hold
//! and configures them. Nothing of the old adapters is changed here: one that is still there after all stays as it was.
//!
//! ```text
//!   inspection, Enum, NetBT ──found──> adapters ──matching──> MACs ──plan──> network.txt, a script
//! ```

mod evidence;
mod found;
mod matching;
mod nsi;
mod plan;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use types::{MacAddr, StaticIp};

use crate::Result;
use crate::windows::convert::Context;
use crate::windows::firstboot::Phase;
use crate::windows::steps::control_set::ControlSet;
use found::{Adapter, Config};
use matching::Pairs;
use nsi::Route;
use plan::Planned;

/// The plan beside the scripts.
const FILE: &str = "network.txt";
/// More persistent routes than these are not looked at.
const ROUTES_MAX: usize = 256;
/// More adapters than these the first-boot program does not take (appliance/windows/network.h).
const ADAPTERS_MAX: usize = 32;

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let Some(set) = context.windows.control_sets.first() else {
        context.recorder.skip("the guest has no control set");
        return Ok(());
    };
    let set = ControlSet::new(context.registry.system(), set);
    let adapters = found::adapters(set, context.windows)?;
    let routes = routes(set)?;
    let nics: Vec<MacAddr> = context.options.nics.iter().filter_map(|n| n.mac).collect();
    let pairs = matching::pair(&adapters, &nics);
    let planned = planned(&adapters, &pairs, &nics, &context.options.static_ips);
    warn(context, &adapters, &pairs, &planned);
    if planned.is_empty() {
        context
            .recorder
            .not_needed("no adapter has anything to keep");
        return Ok(());
    }
    if context.programs.is_none() {
        let reason = "there is no first-boot service that could set addresses";
        context.recorder.skip(reason);
        for one in planned.iter().filter(|one| one.config.is_static()) {
            let config = plan::description(&one.config);
            let message = format!("{reason}: adapter {} had {config}", one.mac);
            context.recorder.warn(message);
        }
        return Ok(());
    }
    let text = plan::text(&planned);
    context.firstboot.file(FILE, text);
    let script = plan::script(&planned, &routes, context.windows);
    context
        .firstboot
        .add_repeatable(Phase::Network, "addresses", script);
    context
        .recorder
        .not_needed("the addresses are set at the first boot");
    Ok(())
}

/// What each NIC gets, in the order of the machine. A configuration that only says DHCP keeps its connection's name.
fn planned<'a>(
    adapters: &'a [Adapter],
    pairs: &Pairs,
    nics: &[MacAddr],
    asked: &[StaticIp],
) -> Vec<Planned<'a>> {
    let mut macs = nics.to_vec();
    for one in asked {
        if !macs.contains(&one.mac) {
            macs.push(one.mac);
        }
    }
    let mut planned = Vec::new();
    for mac in macs {
        let old = pairs.pairs.iter().find(|(_, paired)| *paired == mac);
        let old = old.and_then(|(index, _)| adapters.get(*index));
        let asked: Vec<&StaticIp> = asked.iter().filter(|one| one.mac == mac).collect();
        if old.is_none() && asked.is_empty() {
            continue;
        }
        let config = old.map_or_else(Config::default, |old| old.config.clone());
        planned.push(Planned {
            mac,
            old,
            config: plan::overridden(config, &asked),
        });
    }
    planned.truncate(ADAPTERS_MAX);
    planned
}

/// Says what could not be decided, and what was by order alone.
fn warn(context: &mut Context<'_>, adapters: &[Adapter], pairs: &Pairs, planned: &[Planned<'_>]) {
    let asked = |mac: &MacAddr| context.options.static_ips.iter().any(|one| one.mac == *mac);
    let all_asked = context
        .options
        .nics
        .iter()
        .all(|nic| nic.mac.is_some_and(|mac| asked(&mac)));
    let mut messages = Vec::new();
    for adapter in pairs.undecided.iter().filter_map(|at| adapters.get(*at)) {
        if adapter.config.is_static() && !all_asked {
            messages.push(format!(
                "the connection {} ({}) may belong to any of several adapters and is not set up: use --mac MAC:ip:ADDRESS,GATEWAY,LENGTH,DNS",
                adapter.name.as_deref().unwrap_or(&adapter.id),
                plan::description(&adapter.config),
            ));
        }
    }
    let statics = planned.iter().filter(|one| one.config.is_static()).count();
    if pairs.by_order && statics > 0 {
        let pairs: Vec<String> = planned
            .iter()
            .filter_map(|one| Some(format!("{} to {}", one.old?.name.as_deref()?, one.mac)))
            .collect();
        messages.push(format!(
            "the registry does not say which adapter is which; by their order, {}: check that, or use --mac MAC:ip:…",
            pairs.join(", ")
        ));
    }
    for message in messages {
        context.recorder.warn(message);
    }
}

/// Persistent routes that are no default routes: those of `route -p` (names `PREFIX,MASK,GATEWAY,METRIC`) and those of
/// netsh, which are bound to an interface.
fn routes(set: ControlSet<'_>) -> Result<Vec<Route>> {
    let mut routes = nsi::routes(set)?;
    for (name, _) in set.values("Services\\Tcpip\\Parameters\\PersistentRoutes")? {
        let mut fields = name.split(',').map(str::trim);
        let (Some(prefix), Some(mask), Some(gateway)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let address = |text: &str| text.parse::<Ipv4Addr>().ok();
        let metric = fields.next().and_then(|metric| metric.parse().ok());
        if let (Some(prefix), Some(gateway), Some(len)) =
            (address(prefix), address(gateway), found::prefix(mask))
            && len > 0
        {
            routes.push(Route {
                prefix,
                len,
                gateway,
                metric: metric.unwrap_or(0),
            });
        }
    }
    let key = |route: &Route| (u32::from(route.prefix), route.len, u32::from(route.gateway));
    routes.sort_by_key(key);
    routes.dedup_by_key(|route| key(route));
    routes.truncate(ROUTES_MAX);
    Ok(routes)
}
