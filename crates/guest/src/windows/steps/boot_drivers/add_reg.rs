//! AddReg lines of an .inf: `HKR, subkey, name, flags, value` (Microsoft Learn, "INF AddReg Directive").

use registry::{Kind, Value};

use super::names;
use crate::windows::drivers::inf::{Inf, Line};
use crate::{Error, ErrorKind, Result};

/// FLG_ADDREG_* of setupapi.h.
const BINARY: u32 = 0x1;
const NO_CLOBBER: u32 = 0x2;
const DELETE: u32 = 0x4;
const APPEND: u32 = 0x8;
const KEY_ONLY: u32 = 0x10;
const OVERWRITE_ONLY: u32 = 0x20;
/// Flags that are for another view of the registry (64BITKEY, 32BITKEY, KEYONLY_COMMON, DELREG_BIT): lines with them are
/// no settings of a driver.
const OTHER_VIEW: u32 = 0x1000 | 0x2000 | 0x4000 | 0x8000;
/// The value's type.
const TYPE: u32 = 0xffff_0000 | BINARY;
const TYPE_SZ: u32 = 0;
const TYPE_MULTI_SZ: u32 = 0x1_0000;
const TYPE_EXPAND_SZ: u32 = 0x2_0000;
const TYPE_DWORD: u32 = 0x1_0001;
const TYPE_NONE: u32 = 0x2_0001;

/// More settings of one driver are refused; those of virtio-win have fewer than 20.
const SETTINGS_MAX: usize = 256;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// Below the driver's or device's own key; empty for that itself.
    pub(super) key: String,
    /// Name of the value; empty for the default one.
    pub(super) name: String,
    /// What becomes of it.
    pub(super) action: Action,
}

/// What a line does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Creates the key.
    Key,
    /// Sets the value.
    Set(Value),
    /// Sets it where there is none.
    Default(Value),
    /// Adds texts to those that are there.
    Append(Vec<String>),
}

/// The settings of these sections, as a directive `AddReg = a, b` lists them. Lines for other roots than HKR are not a
/// driver's own and left to the installation by Windows itself.
pub(super) fn read<'a>(
    inf: &Inf,
    sections: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    for name in sections {
        let lines = inf.section(name).map_or(&[][..], |section| &section.lines);
        for line in lines {
            settings.extend(setting(line)?);
            if settings.len() > SETTINGS_MAX {
                let message = format!("expected at most {SETTINGS_MAX} AddReg lines in an .inf");
                return Err(Error::new(ErrorKind::Limit, message));
            }
        }
    }
    Ok(settings)
}

fn setting(line: &Line) -> Result<Option<Setting>> {
    let field = |at: usize| line.fields.get(at).map_or("", |field| field.trim());
    if line.key.is_some() || !field(0).eq_ignore_ascii_case("HKR") {
        return Ok(None);
    }
    let flags = match field(3) {
        "" => 0,
        text => number(text)?,
    };
    if flags & (OTHER_VIEW | DELETE | OVERWRITE_ONLY) != 0 {
        return Ok(None);
    }
    let key = names::key(field(1))?;
    let name = names::text("a value's name", field(2))?;
    let action = if flags & KEY_ONLY != 0 || (flags == 0 && name.is_empty() && field(4).is_empty())
    {
        Action::Key
    } else {
        action(flags, line.fields.get(4..).unwrap_or_default())?
    };
    Ok(Some(Setting { key, name, action }))
}

fn action(flags: u32, fields: &[String]) -> Result<Action> {
    let first = fields.first().map_or("", String::as_str);
    let texts = || fields.iter().map(|text| names::text("a value", text));
    let value = match flags & TYPE {
        TYPE_SZ => Value::text(&names::text("a value", first)?),
        TYPE_EXPAND_SZ => Value::expand(&names::text("a value", first)?),
        TYPE_MULTI_SZ if flags & APPEND != 0 => {
            return Ok(Action::Append(texts().collect::<Result<_>>()?));
        }
        TYPE_MULTI_SZ => Value::multi(&texts().collect::<Result<Vec<_>>>()?),
        TYPE_DWORD if fields.len() == 4 => Value {
            kind: Kind::DWORD,
            data: bytes(fields)?,
        },
        TYPE_DWORD => Value::dword(number(first.trim())?),
        TYPE_NONE => Value {
            kind: Kind::NONE,
            data: bytes(fields)?,
        },
        BINARY => Value::binary(bytes(fields)?),
        // Any other type by its number in the upper half, its data as bytes.
        other => Value {
            kind: Kind(other >> 16),
            data: bytes(fields)?,
        },
    };
    Ok(if flags & NO_CLOBBER == 0 {
        Action::Set(value)
    } else {
        Action::Default(value)
    })
}

/// Decimal, or hexadecimal with 0x; a negative one as its two's complement.
pub(super) fn number(text: &str) -> Result<u32> {
    let text = text.trim();
    let hex = text.get(..2).filter(|it| it.eq_ignore_ascii_case("0x"));
    let number = match (hex, text.get(2..)) {
        (Some(_), Some(digits)) => u32::from_str_radix(digits, 16).ok(),
        _ if text.starts_with('-') => text.parse::<i32>().ok().map(i32::cast_unsigned),
        _ => text.parse().ok(),
    };
    number.ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Error::corrupt(format!(
            "expected a number in the driver's .inf, found {shown:?}"
        ))
    })
}

/// One byte in hexadecimal per field.
fn bytes(fields: &[String]) -> Result<Vec<u8>> {
    let byte = |field: &String| {
        let digits = field.trim();
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        u8::from_str_radix(digits, 16)
            .map_err(|_| Error::corrupt("expected bytes in hexadecimal in the driver's .inf"))
    };
    fields
        .iter()
        .filter(|field| !field.trim().is_empty())
        .map(byte)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(fields: &[&str]) -> Result<Option<Setting>> {
        setting(&Line {
            key: None,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        })
    }

    fn action_of(fields: &[&str]) -> Action {
        one(fields).unwrap().unwrap().action
    }

    #[test]
    fn flags_are_read_as_setupapi_reads_them() {
        let set = |value: Value| Action::Set(value);
        assert_eq!(action_of(&["HKR", "", "a", "", "x"]), set(Value::text("x")));
        assert_eq!(
            action_of(&["HKR", "", "a", "0x10001", "0x10"]),
            set(Value::dword(16))
        );
        assert_eq!(
            action_of(&["hkr", "", "a", "65537", "-1"]),
            set(Value::dword(u32::MAX))
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "0x00010001", "01", "00", "00", "80"]),
            set(Value::dword(0x8000_0001))
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "0x00020000", "%SystemRoot%\\x"]),
            set(Value::expand("%SystemRoot%\\x"))
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "1", "0a", "ff"]),
            set(Value::binary([10, 255]))
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "0x10000", "x", "y"]),
            set(Value::multi(&["x", "y"]))
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "0x00010008", "x"]),
            Action::Append(vec!["x".to_owned()])
        );
        assert_eq!(
            action_of(&["HKR", "", "a", "0x10003", "7"]),
            Action::Default(Value::dword(7))
        );
        assert_eq!(
            action_of(&["HKR", "Interrupt Management", "", "0x10"]),
            Action::Key
        );
        let qword = Value {
            kind: Kind::QWORD,
            data: vec![1, 0, 0, 0, 0, 0, 0, 0],
        };
        let fields = [
            "HKR", "", "a", "0xb0001", "1", "0", "0", "0", "0", "0", "0", "0",
        ];
        assert_eq!(action_of(&fields), set(qword));
    }

    #[test]
    fn others_lines_are_left_and_wrong_ones_refused() {
        assert_eq!(one(&["HKLM", "System\\x", "a", "", "x"]).unwrap(), None);
        assert_eq!(one(&["HKR", "", "a", "4"]).unwrap(), None);
        assert_eq!(one(&["HKR", "", "a", "0x1000", "x"]).unwrap(), None);
        for bad in [
            &["HKR", "", "a", "zz", "x"][..],
            &["HKR", "", "a", "0x10001", "0x1ffffffff"],
            &["HKR", "..\u{1}", "a", "", "x"],
            &["HKR", "a\\\\b", "a", "", "x"],
            &["HKR", "", "a", "1", "100"],
            &["HKR", "", "a", "", "x\u{0}y"],
        ] {
            assert!(one(bad).is_err(), "{bad:?}");
        }
    }
}
