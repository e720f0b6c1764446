//! Published names of third-party drivers: `oemN.inf`.

use registry::{Hive, Kind, Value};

use super::driver_database::{INF_FILES, PACKAGES};
use super::keys::Keys;
use crate::windows::convert::Context;
use crate::windows::files;
use crate::{Error, ErrorKind, Result};

/// Windows numbers them from 0; more are refused.
const OEM_MAX: usize = 10_000;

/// The published name: that which the package has already, else `oemN.inf` with the lowest free number, as Windows
/// chooses it.
pub(super) fn name(context: &Context<'_>, own: &str) -> Result<String> {
    let system = context.registry.system();
    let known = system.value(&format!("{PACKAGES}\\{own}"), "");
    let known = known.ok().flatten().and_then(|value| value.as_text());
    if let Some(name) = known.filter(|name| number(name).is_some()) {
        return Ok(name);
    }
    let used = used(context);
    let free = (0..OEM_MAX).find(|at| !used.contains(at)).ok_or_else(|| {
        let message = format!("expected fewer than {OEM_MAX} third-party drivers");
        Error::new(ErrorKind::Limit, message)
    })?;
    Ok(format!("oem{free}.inf"))
}

/// Numbers that are taken: by the database's map, by its keys, by files.
fn used(context: &Context<'_>) -> Vec<usize> {
    let system = context.registry.system();
    let dir = format!("{}/INF", context.windows.system_root);
    let dir = files::place(context.root, &dir);
    let names = context.root.names(&dir).into_iter();
    let names = names.chain(system.keys(INF_FILES).unwrap_or_default());
    let mut used: Vec<usize> = names.filter_map(|name| number(&name)).collect();
    let map = map(system);
    used.extend(
        (0..OEM_MAX.min(map.len().saturating_mul(8)))
            .filter(|at| map.get(at / 8).is_some_and(|byte| byte & bit(*at) != 0)),
    );
    used
}

/// OemInfMap: a bit for each number, the highest of a byte first.
fn map(system: &Hive) -> Vec<u8> {
    let map = system.value("DriverDatabase", "OemInfMap").ok().flatten();
    map.filter(|map| map.kind == Kind::BINARY)
        .map(|map| map.data)
        .unwrap_or_default()
}

fn bit(at: usize) -> u8 {
    0x80 >> (at % 8)
}

/// N of `oemN.inf`.
fn number(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let digits = name.strip_prefix("oem")?.strip_suffix(".inf")?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Marks the number as taken.
pub(super) fn claim(keys: &mut Keys<'_, '_>, oem: &str) -> Result<()> {
    let at = number(oem).unwrap_or(0);
    let map = keys.value("DriverDatabase", "OemInfMap")?;
    let mut map = map.map(|map| map.data).unwrap_or_default();
    if map.len() <= at / 8 {
        map.resize(at / 8 + 1, 0);
    }
    if let Some(byte) = map.get_mut(at / 8) {
        *byte |= bit(at);
    }
    keys.set("DriverDatabase", "OemInfMap", &Value::binary(map))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_names_have_a_number() {
        assert_eq!(number("OEM12.INF"), Some(12));
        for name in [
            "oem.inf",
            "oem1.pnf",
            "oem-1.inf",
            "oem1x.inf",
            "disk.inf",
            "oem+1.inf",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
        assert_eq!((bit(0), bit(2), bit(8)), (0x80, 0x20, 0x80));
    }
}
