//! `--hostname` and `--timezone`, in every control set.

use registry::Value;

use super::{refused, zones};
use crate::Result;
use crate::windows::convert::Context;
use crate::windows::hives::{Which, failed};
use crate::windows::steps::control_set::ControlSet;

const WHY_NAME: &str = "the guest's new host name";
const WHY_ZONE: &str = "the guest's new time zone";
/// Zones that this Windows knows, in SOFTWARE.
const ZONES: &str = "Microsoft\\Windows NT\\CurrentVersion\\Time Zones";
/// NetBIOS names have fifteen characters (MS-NBTE 2.2.1).
const NAME_MAX: usize = 15;

/// The computer's name and the suffix behind its first dot.
fn split(name: &str) -> (&str, Option<&str>) {
    name.split_once('.')
        .map_or((name, None), |(name, suffix)| (name, Some(suffix)))
}

/// Refuses names that Windows has not, and computers that must not be renamed.
pub(super) fn check_name(context: &Context<'_>, name: &str) -> Result<()> {
    if context
        .windows
        .product_type
        .eq_ignore_ascii_case("LanmanNT")
    {
        return Err(refused(
            "--hostname: this is a domain controller, which is renamed by netdom only",
        ));
    }
    let (short, suffix) = split(name);
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let digits = short.chars().all(|c| c.is_ascii_digit());
    if !label(short) || digits || suffix.is_some_and(|suffix| !suffix.split('.').all(label)) {
        return Err(refused(format!(
            "--hostname: expected letters, digits and dashes, and not digits alone, found {name}"
        )));
    }
    if short.len() > NAME_MAX {
        return Err(refused(format!(
            "--hostname: expected at most {NAME_MAX} characters before the first dot, found {short}"
        )));
    }
    Ok(())
}

/// Sets the computer's name.
pub(super) fn hostname(context: &mut Context<'_>, name: &str) -> Result<()> {
    check_name(context, name)?;
    let (short, suffix) = split(name);
    for set in &context.windows.control_sets {
        let names = format!("{set}\\Control\\ComputerName");
        let tcpip = format!("{set}\\Services\\Tcpip\\Parameters");
        let netbios = Value::text(&short.to_uppercase());
        let short = Value::text(short);
        let mut values = vec![
            (
                format!("{names}\\ComputerName"),
                "ComputerName",
                netbios.clone(),
            ),
            (tcpip.clone(), "Hostname", short.clone()),
            (tcpip.clone(), "NV Hostname", short),
        ];
        let read = ControlSet::new(context.registry.system(), set);
        if read.has("Control\\ComputerName\\ActiveComputerName")? {
            let active = format!("{names}\\ActiveComputerName");
            values.push((active, "ComputerName", netbios));
        }
        if let Some(suffix) = suffix {
            for name in ["Domain", "NV Domain"] {
                values.push((tcpip.clone(), name, Value::text(suffix)));
            }
        }
        // The service that talks to the domain starts by itself on members only.
        let member = read.number("Services\\Netlogon", "Start")? == Some(2);
        for (path, name, value) in values {
            let recorder = &mut context.recorder;
            context
                .registry
                .set(recorder, Which::System, &path, name, &value, WHY_NAME)?;
        }
        if member {
            context.recorder.warn(
                "the guest is a member of a domain, which still knows it by its old name: join it again after the first boot",
            );
        }
    }
    Ok(())
}

/// The zone's name in Windows; it must be one that this Windows knows.
pub(super) fn find_zone(context: &Context<'_>, zone: &str) -> Result<String> {
    let known = context.registry.software().keys(ZONES);
    let known = known.map_err(failed(ZONES))?;
    let wanted = zones::windows_name(zone).unwrap_or(zone);
    let found = known.iter().find(|name| name.eq_ignore_ascii_case(wanted));
    found.cloned().ok_or_else(|| {
        refused(format!(
            "--timezone: expected a zone that is known here or a name that this Windows has (`tzutil /l`), such as W. Europe Standard Time, found {zone}"
        ))
    })
}

/// Sets the time zone from what Windows has of it (`TZI`: winbase.h, `REG_TZI_FORMAT`: three biases in minutes, the
/// beginnings of standard and daylight time).
pub(super) fn timezone(context: &mut Context<'_>, zone: &str) -> Result<()> {
    let key = find_zone(context, zone)?;
    let path = format!("{ZONES}\\{key}");
    let software = context.registry.software();
    let read = |name: &str| software.value(&path, name).map_err(failed(&path));
    let tzi = read("TZI")?.map(|value| value.data).unwrap_or_default();
    let field = |at: usize| {
        tzi.get(at..)?
            .first_chunk::<4>()
            .map(|b| u32::from_le_bytes(*b))
    };
    let date = |at: usize| tzi.get(at..at.checked_add(16)?).map(Value::binary);
    let (Some(bias), Some(standard), Some(daylight), Some(begins), Some(ends)) =
        (field(0), field(4), field(8), date(12), date(28))
    else {
        return Err(crate::Error::corrupt("expected 44 bytes in TZI").at(path));
    };
    // Since Windows Vista the names are references to a DLL of texts.
    let text = |mui: &str, plain: &str| -> Result<Value> {
        let value = match read(mui)? {
            Some(value) => Some(value),
            None => read(plain)?,
        };
        let text = value.and_then(|value| value.as_text());
        Ok(Value::text(&text.unwrap_or_else(|| key.clone())))
    };
    let values = [
        ("Bias", Value::dword(bias)),
        ("StandardBias", Value::dword(standard)),
        ("DaylightBias", Value::dword(daylight)),
        ("StandardStart", begins),
        ("DaylightStart", ends),
        ("StandardName", text("MUI_Std", "Std")?),
        ("DaylightName", text("MUI_Dlt", "Dlt")?),
    ];
    let mut values: Vec<(&str, Value)> = values.into_iter().collect();
    if context.windows.major >= 6 {
        values.push(("TimeZoneKeyName", Value::text(&key)));
        values.push(("DynamicDaylightTimeDisabled", Value::dword(0)));
    }
    for set in &context.windows.control_sets {
        let path = format!("{set}\\Control\\TimeZoneInformation");
        for (name, value) in &values {
            let recorder = &mut context.recorder;
            context
                .registry
                .set(recorder, Which::System, &path, name, value, WHY_ZONE)?;
        }
    }
    Ok(())
}
