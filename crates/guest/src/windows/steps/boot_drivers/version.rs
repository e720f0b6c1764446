//! The value Version of a driver package.

use std::time::{SystemTime, UNIX_EPOCH};

use types::Guid;

use super::driver::Driver;
use crate::windows::drivers::inf::Platform;
use crate::{Error, Result};

/// Seconds from 1601 to 1970, and units of a FILETIME in a second.
const EPOCHS: u64 = 11_644_473_600;
const FILETIME_SECOND: u64 = 10_000_000;
/// [`filetime_of`]'s count of days for 1601-01-01.
const FIRST_DAY: u64 = 584_695;

/// 48 bytes: the processor, the class, date and version of the driver. The first two bytes are 00 ff for a third
/// party's package (ff ff for Windows' own), the last 8 are 0.
pub(super) fn of(driver: &Driver) -> Result<Vec<u8>> {
    let ((year, month, day), numbers) = driver.version;
    let mut value = vec![0x00, 0xff];
    value.extend(processor(driver.platform).to_le_bytes());
    value.extend([0; 4]);
    let class: Guid = (driver.class_guid.parse()).map_err(|_| Error::corrupt("expected a GUID"))?;
    value.extend(class.0);
    value.extend(filetime_of(year, month, day)?.to_le_bytes());
    value.extend(numbers.iter().rev().flat_map(|number| number.to_le_bytes()));
    value.extend([0; 8]);
    Ok(value)
}

/// PROCESSOR_ARCHITECTURE_* (winnt.h).
fn processor(platform: Platform) -> u16 {
    match platform.arch {
        "amd64" => 9,
        "arm64" => 12,
        _ => 0,
    }
}

/// Midnight (UTC) of a day of the Gregorian calendar.
fn filetime_of(year: u16, month: u16, day: u16) -> Result<u64> {
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = match month {
        1 | 2 => (u64::from(year).checked_sub(1), u64::from(month) + 9),
        _ => (Some(u64::from(year)), u64::from(month).saturating_sub(3)),
    };
    let days = year.map(|year| {
        let leap = year / 4 + year / 400 - year / 100;
        year * 365 + leap + (153 * month + 2) / 5 + u64::from(day)
    });
    let since = days.and_then(|days| days.checked_sub(FIRST_DAY));
    since
        .map(|days| days * 24 * 60 * 60 * FILETIME_SECOND)
        .ok_or_else(|| Error::corrupt("expected a date of DriverVer after 1600"))
}

/// The present time as a FILETIME (100 ns since 1601).
pub(super) fn filetime_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_secs() + EPOCHS) * FILETIME_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_real_hives() {
        // viostor 100.90.104.21500 of 2021-12-02 as Windows 11 wrote it, VirtualBox 5.0.26 of 2016-07-18 as 8.1 did.
        assert_eq!(
            filetime_of(2021, 12, 2).unwrap().to_le_bytes(),
            [0x00, 0xc0, 0x97, 0x8c, 0x0f, 0xe7, 0xd7, 0x01]
        );
        assert_eq!(
            filetime_of(2016, 7, 18).unwrap().to_le_bytes(),
            [0x00, 0x80, 0xb4, 0x53, 0x87, 0xe0, 0xd1, 0x01]
        );
        assert_eq!(filetime_of(1601, 1, 1).unwrap(), 0);
        assert_eq!(filetime_of(1970, 1, 1).unwrap(), EPOCHS * FILETIME_SECOND);
        assert!(filetime_of(1600, 12, 31).is_err() && filetime_of(0, 1, 1).is_err());
    }
}
