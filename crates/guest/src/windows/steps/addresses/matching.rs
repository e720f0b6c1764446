//! Which adapter of the machine each configuration goes to.
//!
//! Certain are: the hardware address where the registry has it, and one adapter for one NIC. Several that cannot be told
//! apart are paired in their order only where the order of their places on PCI and the order of their installation agree;
//! else they are left alone: an address on the wrong network is worse than none.

use types::MacAddr;

use super::found::Adapter;

/// What became of the adapters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pairs {
    /// Indices into the adapters with the addresses of their NICs, in the order of the NICs.
    pub(super) pairs: Vec<(usize, MacAddr)>,
    /// Pairs of them that were made by order alone.
    pub(super) by_order: bool,
    /// Adapters of which nobody knows where they belong.
    pub(super) undecided: Vec<usize>,
}

/// Pairs adapters with the machine's NICs.
pub(super) fn pair(adapters: &[Adapter], nics: &[MacAddr]) -> Pairs {
    let mut out = Pairs::default();
    let mut left: Vec<usize> = (0..adapters.len()).collect();
    let mut free: Vec<MacAddr> = nics.to_vec();
    // The newest first: an adapter that was taken out and put in again has left an older one of its address.
    for index in (0..adapters.len()).rev() {
        let Some(adapter) = adapters.get(index) else {
            continue;
        };
        let known = |mac: &MacAddr| adapter.evidence.mac == Some(*mac);
        if adapter.evidence.present != Some(false)
            && let Some(at) = free.iter().position(known)
        {
            out.pairs.push((index, free.remove(at)));
            left.retain(|other| *other != index);
        }
    }
    let of = |index: &usize| adapters.get(*index);
    left.retain(|index| of(index).is_some_and(|adapter| adapter.evidence.present != Some(false)));
    // With every NIC accounted for, the rest are of times past.
    if !free.is_empty() {
        let left = narrowed(adapters, left, &free);
        match in_order(adapters, &left, &free) {
            Some(order) => {
                out.by_order = order.len() > 1;
                out.pairs.extend(order.into_iter().zip(free));
            }
            None => out.undecided = left,
        }
    }
    let place = |mac: &MacAddr| nics.iter().position(|nic| nic == mac);
    out.pairs.sort_by_key(|(_, mac)| place(mac));
    out
}

/// Takes those away that are probably gone, as far as as many as there are NICs remain.
fn narrowed(adapters: &[Adapter], mut left: Vec<usize>, free: &[MacAddr]) -> Vec<usize> {
    let fits = |adapter: &Adapter| free.iter().any(|mac| compatible(adapter, *mac));
    let kept: [&dyn Fn(&Adapter) -> bool; 3] = [
        &|adapter| adapter.evidence.mac.is_none() && fits(adapter),
        &fits,
        &|adapter| !adapter.evidence.stale,
    ];
    for keep in kept {
        if left.len() <= free.len() {
            break;
        }
        let fewer: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| adapters.get(*index).is_some_and(keep))
            .collect();
        if fewer.len() >= free.len() {
            left = fewer;
        }
    }
    left
}

/// Nothing that is known of the adapter speaks against this address.
fn compatible(adapter: &Adapter, mac: MacAddr) -> bool {
    let [a, b, c, ..] = mac.0;
    adapter.evidence.oui.is_none_or(|oui| oui == [a, b, c])
}

/// The adapters in the order of the NICs, if that can be told.
fn in_order(adapters: &[Adapter], left: &[usize], free: &[MacAddr]) -> Option<Vec<usize>> {
    if left.len() != free.len() {
        return None;
    }
    if left.len() > 1 {
        // Halves of addresses may decide it; else they must not speak against the order.
        if let Some(order) = permuted(adapters, left, free) {
            return Some(order);
        }
        let place = |index: &usize| adapters.get(*index).and_then(|one| one.evidence.location);
        let places: Vec<Option<[u32; 3]>> = left.iter().map(place).collect();
        let sorted = places.iter().all(Option::is_some) && places.is_sorted();
        if !(sorted || places.iter().all(Option::is_none)) || !fit(adapters, left, free) {
            return None;
        }
    }
    // It is the order of installation already.
    Some(left.to_vec())
}

fn fit(adapters: &[Adapter], left: &[usize], free: &[MacAddr]) -> bool {
    left.iter().zip(free).all(|(index, mac)| {
        let adapter = adapters.get(*index);
        adapter.is_some_and(|adapter| compatible(adapter, *mac))
    })
}

/// The only order in which each adapter has one NIC that begins as its address did.
fn permuted(adapters: &[Adapter], left: &[usize], free: &[MacAddr]) -> Option<Vec<usize>> {
    let mut order = Vec::new();
    for mac in free {
        let fitting: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| {
                let adapter = adapters.get(*index);
                adapter.is_some_and(|one| one.evidence.oui.is_some() && compatible(one, *mac))
            })
            .collect();
        let [only] = fitting.as_slice() else {
            return None;
        };
        order.push(*only);
    }
    let mut distinct = order.clone();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() == order.len()).then_some(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::steps::addresses::evidence::Evidence;

    fn mac(text: &str) -> MacAddr {
        text.parse().unwrap()
    }

    fn adapter(evidence: Evidence) -> Adapter {
        Adapter {
            evidence,
            ..Adapter::default()
        }
    }

    fn at(bus: u32, device: u32) -> Evidence {
        Evidence {
            location: Some([bus, device, 0]),
            ..Evidence::default()
        }
    }

    fn oui(oui: [u8; 3]) -> Evidence {
        Evidence {
            oui: Some(oui),
            ..Evidence::default()
        }
    }

    fn pairs(evidence: Vec<Evidence>, nics: &[&str]) -> Pairs {
        let adapters: Vec<Adapter> = evidence.into_iter().map(adapter).collect();
        let nics: Vec<MacAddr> = nics.iter().map(|nic| mac(nic)).collect();
        pair(&adapters, &nics)
    }

    const A: &str = "00:50:56:00:00:0a";
    const B: &str = "00:0c:29:00:00:0b";

    #[test]
    fn hardware_addresses_decide_whatever_the_order() {
        let known = |text| Evidence {
            mac: Some(mac(text)),
            ..at(9, 9)
        };
        let found = pairs(vec![known(B), known(A)], &[A, B]);
        assert_eq!(found.pairs, [(1, mac(A)), (0, mac(B))]);
        assert!(!found.by_order && found.undecided.is_empty());
        // Another one that is known by neither is of times past.
        let found = pairs(vec![at(0, 1), known(A)], &[A]);
        assert_eq!(found.pairs, [(1, mac(A))]);
        assert!(found.undecided.is_empty());
    }

    #[test]
    fn one_adapter_and_one_nic_belong_together() {
        assert_eq!(pairs(vec![at(0, 3)], &[A]).pairs, [(0, mac(A))]);
        // Even if its address was another one: the machine has got a new one.
        assert_eq!(pairs(vec![oui([1, 2, 3])], &[A]).pairs, [(0, mac(A))]);
    }

    #[test]
    fn several_are_paired_only_when_both_orders_agree() {
        let found = pairs(vec![at(2, 1), at(2, 3)], &[A, B]);
        assert_eq!(found.pairs, [(0, mac(A)), (1, mac(B))]);
        assert!(found.by_order);
        let found = pairs(vec![at(2, 3), at(2, 1)], &[A, B]);
        assert_eq!((found.pairs.len(), found.undecided), (0, vec![0, 1]));
        // VMBus has no places: the order of installation is all there is.
        let none = Evidence::default();
        assert!(pairs(vec![none.clone(), none], &[A, B]).by_order);
    }

    #[test]
    fn halves_of_addresses_find_the_one_that_is_left() {
        let ghost = oui([0, 0x1c, 0x23]);
        let found = pairs(vec![ghost, oui([0, 0x50, 0x56])], &[A]);
        assert_eq!(found.pairs, [(1, mac(A))]);
        // They turn the order round where they are clear.
        let found = pairs(vec![oui([0, 0x0c, 0x29]), oui([0, 0x50, 0x56])], &[A, B]);
        assert_eq!(found.pairs, [(1, mac(A)), (0, mac(B))]);
    }

    #[test]
    fn what_is_gone_is_not_taken_and_what_is_unclear_is_left() {
        let gone = Evidence {
            present: Some(false),
            ..at(0, 1)
        };
        let stale = Evidence {
            stale: true,
            ..at(0, 2)
        };
        let found = pairs(vec![gone, stale, at(0, 3)], &[A]);
        assert_eq!(found.pairs, [(2, mac(A))]);
        let found = pairs(vec![at(0, 1), at(0, 2)], &[A]);
        assert_eq!(found.undecided, [0, 1]);
        assert_eq!(pairs(vec![at(0, 1)], &[A, B]).undecided, [0]);
        assert_eq!(pairs(vec![], &[A]), Pairs::default());
    }
}
