//! Which adapter has which name: by what the configuration says of MACs, drivers and slots, then in the order of the
//! slots.

use types::{MacAddr, Nic, NicModel, glob};

use super::found::{Configured, Found, Kind, is_interface_name};

/// Outcome of the assignment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Assigned {
    /// Adapter and the name that it keeps, in the machine's order.
    pub(super) names: Vec<(MacAddr, String)>,
    /// Adapter and the place of the old machine's bus that a file without a name knows it by.
    pub(super) paths: Vec<(MacAddr, String)>,
    pub(super) warnings: Vec<String>,
}

impl Assigned {
    /// The adapters that an entry means.
    pub(super) fn adapters(&self, entry: &Configured, nics: &[Nic]) -> Vec<MacAddr> {
        let by = |pairs: &[(MacAddr, String)], wanted: Option<&str>| {
            let mut pairs = pairs.iter();
            pairs
                .find(|(_, have)| Some(have.as_str()) == wanted)
                .map(|(mac, _)| *mac)
        };
        if let Some(mac) = entry.mac {
            let known = nics.iter().any(|nic| nic.mac == Some(mac));
            return known.then_some(mac).into_iter().collect();
        }
        let one = by(&self.names, entry.name.as_deref())
            .or_else(|| by(&self.paths, entry.path.as_deref()));
        match (one, &entry.driver) {
            (Some(mac), _) => vec![mac],
            (None, Some(driver)) if entry.name.is_none() && entry.path.is_none() => {
                by_driver(nics, driver)
            }
            _ => Vec::new(),
        }
    }
}

/// Adapters whose old driver fits; all of them where the source does not say what they are.
pub(super) fn by_driver(nics: &[Nic], patterns: &str) -> Vec<MacAddr> {
    let unknown = nics.iter().all(|nic| drivers(nic).is_empty());
    nics.iter()
        .filter(|nic| unknown || drives(patterns, &drivers(nic)))
        .filter_map(|nic| nic.mac)
        .collect()
}

pub(super) fn drives(patterns: &str, drivers: &[&str]) -> bool {
    drivers.iter().any(|driver| {
        patterns
            .split_whitespace()
            .any(|pattern| glob::matches(pattern, driver))
    })
}

/// Linux drivers of an adapter's model at the source.
pub(super) fn drivers(nic: &Nic) -> Vec<&str> {
    match &nic.model {
        Some(NicModel::E1000) => vec!["e1000"],
        Some(NicModel::E1000e) => vec!["e1000e"],
        Some(NicModel::Vmxnet3) => vec!["vmxnet3"],
        Some(NicModel::Pcnet) => vec!["pcnet32", "vmxnet", "vlance"],
        Some(NicModel::Rtl8139) => vec!["8139cp", "8139too"],
        Some(NicModel::Virtio) => vec!["virtio_net"],
        Some(NicModel::Other(name)) => vec![name.as_str()],
        _ => Vec::new(),
    }
}

/// Pairs found so far; no adapter and no name is given twice.
#[derive(Default)]
struct Pairs(Vec<(MacAddr, String)>);

impl Pairs {
    fn take(&mut self, mac: MacAddr, name: &str) {
        if !self.has(mac) && !self.is_taken(name) && is_interface_name(name) {
            self.0.push((mac, name.to_owned()));
        }
    }

    fn has(&self, mac: MacAddr) -> bool {
        self.0.iter().any(|(have, _)| *have == mac)
    }

    fn is_taken(&self, name: &str) -> bool {
        self.0.iter().any(|(_, have)| have == name)
    }
}

/// Gives each adapter its name, in this order of trust: the source's word (P2V), a MAC beside the name in the
/// configuration, a name made of the MAC (enx…), a driver that only one adapter had, what was seen when the guest
/// last ran, and what is left in the order of the names' slots. `kernel_names` when the guest's udev gives no predictable names.
pub(super) fn assign(nics: &[Nic], found: &Found, kernel_names: bool) -> Assigned {
    let macs: Vec<MacAddr> = nics.iter().filter_map(|nic| nic.mac).collect();
    let mut pairs = Pairs::default();
    for nic in nics {
        if let (Some(mac), Some(name)) = (nic.mac, &nic.guest_name) {
            pairs.take(mac, name);
        }
    }
    for entry in found
        .entries
        .iter()
        .filter(|entry| !matches!(entry.kind, Kind::Virtual | Kind::Seen))
    {
        if let (Some(mac), Some(name)) = (entry.mac, &entry.name)
            && macs.contains(&mac)
        {
            pairs.take(mac, name);
        }
    }
    let mut wanted = wanted(found);
    for name in &wanted {
        let by_name = macs
            .iter()
            .find(|mac| *name == format!("enx{}", mac.to_string().replace(':', "")));
        if let Some(mac) = by_name {
            pairs.take(*mac, name);
        }
    }
    wanted.retain(|name| !pairs.is_taken(name));
    by_old_driver(nics, found, &wanted, &mut pairs);
    for entry in found
        .entries
        .iter()
        .filter(|entry| entry.kind == Kind::Seen)
    {
        if let (Some(mac), Some(name)) = (entry.mac, entry.name.as_deref())
            && macs.contains(&mac)
            && wanted.contains(&name)
        {
            pairs.take(mac, name);
        }
    }
    wanted.retain(|name| !pairs.is_taken(name));
    let free = free(&macs, found, &pairs, wanted.len());
    sort(&mut wanted, found);
    let mut warnings = if is_one_bond(&wanted, &free, found) {
        Vec::new()
    } else {
        mismatch(&wanted, &free)
    };
    for (mac, name) in free.iter().zip(&wanted) {
        pairs.take(*mac, name);
    }
    let paths = places(&macs, found, &pairs);
    if !kernel_names {
        by_glob(&macs, found, &paths, &mut pairs);
    }
    pairs
        .0
        .sort_by_key(|(mac, _)| macs.iter().position(|have| have == mac));
    warnings.extend(swapped(&pairs.0, &macs));
    Assigned {
        names: pairs.0,
        paths,
        warnings,
    }
}

/// Names of adapters that the guest configures. Names of udev's rules alone are leftovers.
fn wanted(found: &Found) -> Vec<&str> {
    let named = |name: &str| {
        found.entries.iter().any(|entry| {
            matches!(entry.kind, Kind::Adapter | Kind::Rule) && entry.name.as_deref() == Some(name)
        })
    };
    let mut wanted: Vec<&str> = Vec::new();
    for entry in found.entries.iter().filter(|entry| entry.configures()) {
        if let Some(name) = entry.name.as_deref()
            && !wanted.contains(&name)
            && !found.is_virtual(name)
            && (is_physical(name) || named(name))
        {
            wanted.push(name);
        }
    }
    wanted
}

/// A name that goes with a driver belongs to the only adapter that had it.
fn by_old_driver(nics: &[Nic], found: &Found, wanted: &[&str], pairs: &mut Pairs) {
    for entry in &found.entries {
        let (Some(name), Some(driver)) = (entry.name.as_deref(), &entry.driver) else {
            continue;
        };
        let free: Vec<&Nic> = nics
            .iter()
            .filter(|nic| nic.mac.is_some_and(|mac| !pairs.has(mac)))
            .filter(|nic| drives(driver, &drivers(nic)))
            .collect();
        if let ([Nic { mac: Some(mac), .. }], true) = (free.as_slice(), wanted.contains(&name)) {
            pairs.take(*mac, name);
        }
    }
}

/// Adapters without a name; those that a file configures by MAC alone only where the others do not suffice.
fn free(macs: &[MacAddr], found: &Found, pairs: &Pairs, wanted: usize) -> Vec<MacAddr> {
    let free: Vec<MacAddr> = macs
        .iter()
        .filter(|mac| !pairs.has(**mac))
        .copied()
        .collect();
    let by_mac = |mac: &MacAddr| {
        found
            .entries
            .iter()
            .any(|entry| entry.mac == Some(*mac) && entry.configures())
    };
    let others: Vec<MacAddr> = free.iter().filter(|mac| !by_mac(mac)).copied().collect();
    if others.len() >= wanted { others } else { free }
}

/// In the order of the places where every name has one, else of the names.
fn sort(wanted: &mut [&str], found: &Found) {
    let place = |name: &str| {
        found
            .entries
            .iter()
            .filter(|entry| entry.name.as_deref() == Some(name))
            .find_map(|entry| place(entry.path.as_deref()?))
    };
    if wanted.iter().all(|name| place(name).is_some()) {
        wanted.sort_by_cached_key(|name| place(name));
    } else {
        wanted.sort_by_cached_key(|name| slot(name));
    }
}

/// Bus address of `pci-0000:0b:00.0` or `0000:0b:00.0`, the first of a path.
fn place(path: &str) -> Option<(u32, u32, u32, u32)> {
    let path = path.strip_prefix("pci-").unwrap_or(path);
    let mut parts = path.split([':', '.', '-']);
    let mut next = || u32::from_str_radix(parts.next()?, 16).ok();
    Some((next()?, next()?, next()?, next()?))
}

/// Adapters for files that go by place alone, where as many of both are left.
fn places(macs: &[MacAddr], found: &Found, pairs: &Pairs) -> Vec<(MacAddr, String)> {
    let mut paths: Vec<&str> = found
        .entries
        .iter()
        .filter(|entry| entry.name.is_none() && entry.mac.is_none())
        .filter_map(|entry| entry.path.as_deref())
        .collect();
    paths.sort_by_key(|path| place(path));
    paths.dedup();
    let free = free(macs, found, pairs, paths.len());
    if paths.len() != free.len() {
        return Vec::new();
    }
    let pair = |(mac, path): (MacAddr, &str)| (mac, path.to_owned());
    free.into_iter().zip(paths).map(pair).collect()
}

/// `Name=ens*` would not fit the new machine's `enp1s0`: such an adapter gets a name that fits.
fn by_glob(macs: &[MacAddr], found: &Found, paths: &[(MacAddr, String)], pairs: &mut Pairs) {
    /// What new names look like: on q35 and on i440fx.
    const NEW: [&str; 2] = ["enp1s0", "ens3"];
    let globs: Vec<&str> = found
        .entries
        .iter()
        .filter(|entry| entry.mac.is_none())
        .filter_map(|entry| entry.glob.as_deref())
        .filter(|glob| !glob.starts_with('*'))
        .collect();
    if globs
        .iter()
        .any(|glob| NEW.iter().all(|name| glob::matches(glob, name)))
    {
        return;
    }
    let free: Vec<MacAddr> = macs
        .iter()
        .filter(|mac| !pairs.has(**mac) && !paths.iter().any(|(have, _)| have == *mac))
        .copied()
        .collect();
    let mut used: Vec<&str> = Vec::new();
    for mac in free {
        // Each pattern once, then the last again.
        let unused = globs.iter().find(|glob| !used.contains(glob));
        let Some(glob) = unused.or(globs.last()).copied() else {
            return;
        };
        used.push(glob);
        let name = (0..100)
            .map(|number| {
                glob.replacen('*', &number.to_string(), 1)
                    .replace('*', "")
                    .replace('?', "1")
            })
            .find(|name| glob::matches(glob, name) && is_physical(name) && !pairs.is_taken(name));
        if let Some(name) = name {
            pairs.take(mac, &name);
        }
    }
}

/// Which port of a bond is which adapter makes no difference.
fn is_one_bond(wanted: &[&str], free: &[MacAddr], found: &Found) -> bool {
    let bond = |name: &str| {
        let mut entries = found.entries.iter();
        entries.find_map(|entry| {
            entry
                .port_of
                .as_deref()
                .filter(|_| entry.name.as_deref() == Some(name))
        })
    };
    let bonds: Vec<Option<&str>> = wanted.iter().map(|name| bond(name)).collect();
    wanted.len() == free.len()
        && bonds.first().is_some_and(Option::is_some)
        && bonds.windows(2).all(|pair| pair.first() == pair.last())
}

fn mismatch(wanted: &[&str], free: &[MacAddr]) -> Vec<String> {
    let pairs: Vec<String> = free
        .iter()
        .zip(wanted)
        .map(|(mac, name)| format!("{name} to {mac}"))
        .collect();
    if wanted.len() > free.len() {
        let rest = wanted.get(free.len()..).unwrap_or_default().join(", ");
        return vec![format!(
            "the guest configures more interfaces than the machine has adapters; without one: {rest}"
        )];
    }
    if wanted.is_empty() || (wanted.len() == free.len() && free.len() == 1) {
        return Vec::new();
    }
    let why = if wanted.len() == free.len() {
        "nothing in the guest ties its interface names to adapters"
    } else {
        "the machine has more adapters than the guest configures and nothing tells which is which"
    };
    vec![format!(
        "{why}; given in order, check that each is on the right network: {}",
        pairs.join(", ")
    )]
}

/// A name that the kernel gives another adapter cannot be had: the renaming races with it (systemd.link(5), Name=).
fn swapped(names: &[(MacAddr, String)], macs: &[MacAddr]) -> Vec<String> {
    let number = |name: &str| name.strip_prefix("eth")?.parse::<usize>().ok();
    let clash: Vec<&str> = names
        .iter()
        .filter(|(mac, name)| {
            let at = macs.iter().position(|have| have == mac);
            number(name).is_some_and(|number| number < macs.len() && Some(number) != at)
        })
        .map(|(_, name)| name.as_str())
        .collect();
    if clash.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "the kernel numbers the adapters in another order than this guest does ({}): check which address each has after \
         the first start",
        clash.join(", ")
    )]
}

/// True for a name that an Ethernet adapter can have: not a bridge, bond, VLAN, tunnel or wireless one.
pub(super) fn is_physical(name: &str) -> bool {
    let digits_after = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let predictable = ["eno", "ens", "enp", "enP", "enX", "enx"]
        .iter()
        .any(|prefix| name.len() > prefix.len() && name.starts_with(prefix));
    // biosdevname: em1, p2p1.
    let bios = digits_after("em") || (digits_after("p") && name.contains('p'));
    let other = ["eth", "lan", "net", "nic", "wan", "dmz"]
        .iter()
        .any(|prefix| digits_after(prefix));
    (predictable || bios || other) && !name.contains(['.', ':', '*', '?', '['])
}

/// Place of a name in the machine's order: on-board, then by slot, bus and port.
///
/// VMware numbers PCI slots of bridges 160, 192, 224, 256 first, and on each of them the further functions 161, 193, …
/// (pciSlotNumber 1184 = 160 + 1024 appears as ens161).
pub(super) fn slot(name: &str) -> (u8, u64, u64, u64, String) {
    const BRIDGE_SLOTS_FROM: u64 = 160;
    const FUNCTIONS: u64 = 32;
    let class = ["eth", "em", "eno", "ens", "enp", "p", "enP", "enX"]
        .iter()
        .position(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
    let mut numbers = name
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u64>().ok());
    let (first, second) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = match name.starts_with("ens") && first >= BRIDGE_SLOTS_FROM {
        true => (BRIDGE_SLOTS_FROM + first % FUNCTIONS, first),
        false => (first, 0),
    };
    let class = class
        .and_then(|class| u8::try_from(class).ok())
        .unwrap_or(u8::MAX);
    (class, major, minor, second, name.to_owned())
}

#[cfg(test)]
mod tests;
