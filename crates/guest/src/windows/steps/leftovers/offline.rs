//! What is done to the registry: services off, filters and network providers out of their lists. It is in every control
//! set, so that falling back to the last known good one does not bring them back.

use std::collections::BTreeSet;

use registry::{Kind, Value};

use super::products::{FILTERS, PRODUCTS, Product};
use crate::Result;
use crate::windows::convert::Context;
use crate::windows::hives::Which;
use crate::windows::steps::control_set::ControlSet;

/// `SERVICE_DISABLED` and `SERVICE_DEMAND_START` (winnt.h).
const DISABLED: u32 = 4;
const DEMAND: u32 = 3;
/// `SERVICE_AUTO_START`.
const AUTO: u32 = 2;
/// Keys below one key that are looked at; Enum of a machine with many devices has some thousands in all.
const KEYS_MAX: usize = 20_000;
const LISTS: [&str; 2] = ["UpperFilters", "LowerFilters"];

/// Names of what is off now, lower case, by product.
#[derive(Debug, Default)]
pub(super) struct Disabled {
    names: BTreeSet<String>,
    kinds: BTreeSet<&'static str>,
    products: BTreeSet<&'static str>,
}

impl Disabled {
    /// Products that something was found of.
    pub(super) fn products(&self) -> impl Iterator<Item = &'static str> {
        self.products.iter().copied()
    }

    /// True when something of this kind of product was found.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }
}

/// Services of the products, in all control sets.
pub(super) fn services(context: &mut Context<'_>) -> Result<Disabled> {
    let mut disabled = Disabled::default();
    for set in &context.windows.control_sets {
        let mut found: Vec<(&Product, String, Option<u32>)> = Vec::new();
        let read = ControlSet::new(context.registry.system(), set);
        for service in read.keys("Services")?.into_iter().take(KEYS_MAX) {
            let path = format!("Services\\{service}");
            let image = read.text(&path, "ImagePath")?.unwrap_or_default();
            let Some(product) = PRODUCTS.iter().find(|one| one.owns(&service, &image)) else {
                continue;
            };
            if !is_hosts(read, product, &service)? {
                let start = read.number(&path, "Start")?;
                found.push((product, service, start));
            }
        }
        for (product, service, start) in found {
            disabled.names.insert(service.to_lowercase());
            disabled.kinds.insert(product.kind);
            disabled.products.insert(product.name);
            // A key without Start is no service, but parameters that something left.
            if start.is_some() {
                context.registry.set(
                    &mut context.recorder,
                    Which::System,
                    &format!("{set}\\Services\\{service}"),
                    "Start",
                    &Value::dword(DISABLED),
                    &format!("{} has no hypervisor to talk to", product.name),
                )?;
            }
        }
    }
    Ok(disabled)
}

/// True for what the guest needs as a host of virtual machines.
fn is_hosts(set: ControlSet<'_>, product: &Product, service: &str) -> Result<bool> {
    let Some((sign, kept)) = product.host else {
        return Ok(false);
    };
    let kept = kept.iter().any(|name| name.eq_ignore_ascii_case(service));
    Ok(kept && set.has(&format!("Services\\{sign}"))?)
}

/// Hyper-V's integration services are part of Windows and stop by themselves, but those that start on their own log an
/// error at every boot.
pub(super) fn hyperv(context: &mut Context<'_>) -> Result<()> {
    for set in &context.windows.control_sets {
        let read = ControlSet::new(context.registry.system(), set);
        let mut automatic = Vec::new();
        for service in read.keys("Services")?.into_iter().take(KEYS_MAX) {
            let known = service
                .get(..4)
                .is_some_and(|s| s.eq_ignore_ascii_case("vmic"));
            let path = format!("Services\\{service}");
            if known && read.number(&path, "Start")? == Some(AUTO) {
                automatic.push(read.path(&path));
            }
        }
        for path in automatic {
            context.registry.set(
                &mut context.recorder,
                Which::System,
                &path,
                "Start",
                &Value::dword(DEMAND),
                "Hyper-V's integration services have no Hyper-V to talk to",
            )?;
        }
    }
    Ok(())
}

/// Takes their drivers out of the lists of filters: of classes, of devices, of critical devices.
pub(super) fn filters(context: &mut Context<'_>, disabled: &Disabled) -> Result<()> {
    let is_ours = |name: &str| {
        let name = name.to_lowercase();
        FILTERS.contains(&name.as_str()) || disabled.names.contains(&name)
    };
    for set in &context.windows.control_sets {
        let read = ControlSet::new(context.registry.system(), set);
        let mut edits: Vec<(String, &str, Option<Value>)> = Vec::new();
        for key in keys_with_filters(read)? {
            for list in LISTS {
                let Some(value) = read.value(&key, list)? else {
                    continue;
                };
                let names = value.as_multi().unwrap_or_default();
                let kept: Vec<&String> = names.iter().filter(|name| !is_ours(name)).collect();
                if kept.len() == names.len() {
                    continue;
                }
                let new = (!kept.is_empty()).then(|| Value::multi(&kept));
                edits.push((read.path(&key), list, new));
            }
        }
        for (path, list, new) in edits {
            let why = "Windows does not start a device whose filter is disabled";
            let recorder = &mut context.recorder;
            let registry = &mut context.registry;
            match new {
                Some(new) => registry.set(recorder, Which::System, &path, list, &new, why)?,
                None => registry.delete_value(recorder, Which::System, &path, list, why)?,
            };
        }
    }
    Ok(())
}

fn keys_with_filters(set: ControlSet<'_>) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for parent in ["Control\\Class", "Control\\CriticalDeviceDatabase"] {
        let names = set.keys(parent)?;
        keys.extend(names.iter().map(|name| format!("{parent}\\{name}")));
    }
    for bus in set.keys("Enum")? {
        for device in set.keys(&format!("Enum\\{bus}"))? {
            let path = format!("Enum\\{bus}\\{device}");
            let instances = set.keys(&path)?;
            keys.extend(instances.iter().map(|name| format!("{path}\\{name}")));
            if keys.len() > KEYS_MAX {
                return Ok(keys);
            }
        }
    }
    Ok(keys)
}

/// Takes their network redirectors out of the order of providers: mpr.dll would load the DLL of each at every logon.
pub(super) fn providers(context: &mut Context<'_>, disabled: &Disabled) -> Result<()> {
    for set in &context.windows.control_sets {
        for order in ["Order", "HwOrder"] {
            let key = format!("Control\\NetworkProvider\\{order}");
            let read = ControlSet::new(context.registry.system(), set);
            let Some(value) = read.value(&key, "ProviderOrder")? else {
                continue;
            };
            let old = value.as_text().unwrap_or_default();
            let kept: Vec<&str> = old
                .split(',')
                .filter(|name| !disabled.names.contains(&name.trim().to_lowercase()))
                .collect();
            let new = kept.join(",");
            if new == old || value.kind == Kind::MULTI_SZ {
                continue;
            }
            let new = Value {
                kind: value.kind,
                ..Value::text(&new)
            };
            let path = format!("{set}\\{key}");
            context.registry.set(
                &mut context.recorder,
                Which::System,
                &path,
                "ProviderOrder",
                &new,
                "its network redirector is disabled",
            )?;
        }
    }
    Ok(())
}
