//! Disks of which Windows' volume manager makes volumes: dynamic disks (LDM) and pools of Storage Spaces, known by the
//! types of their partitions (Microsoft, `PARTITION_INFORMATION_GPT`; the MBR type 0x42 is `PARTITION_LDM`).

use types::BlockDevice;

const DYNAMIC: &str = "a dynamic disk";
const POOL: &str = "a pool of Storage Spaces";
const TYPES: [(&str, &str); 4] = [
    ("0x42", DYNAMIC),
    // Its database, and its data.
    ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", DYNAMIC),
    ("af9b60a0-1431-4f62-bc68-3311714a69ad", DYNAMIC),
    ("e75caf8f-f680-4cee-afa3-b001e56efc2d", POOL),
];

/// What the device is a part of, if it is one.
pub(super) fn kind(device: &BlockDevice) -> Option<&'static str> {
    let found = device.parttype.as_deref()?;
    TYPES
        .iter()
        .find(|(known, _)| found.eq_ignore_ascii_case(known))
        .map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use types::DeviceKind;

    use super::*;

    #[test]
    fn types_tell_and_those_of_basic_disks_do_not() {
        let part = |parttype: &str| BlockDevice {
            name: "/dev/sda1".into(),
            kind: DeviceKind::Partition { disk: 0, number: 1 },
            virtual_size: 1 << 30,
            start: None,
            content: "ntfs".into(),
            uuid: None,
            label: None,
            partuuid: None,
            partlabel: None,
            parttype: Some(parttype.into()),
        };
        assert_eq!(kind(&part("0x42")), Some(DYNAMIC));
        assert_eq!(
            kind(&part("AF9B60A0-1431-4F62-BC68-3311714A69AD")),
            Some(DYNAMIC)
        );
        assert_eq!(
            kind(&part("e75caf8f-f680-4cee-afa3-b001e56efc2d")),
            Some(POOL)
        );
        // The reserved partition that every Windows makes on a GPT, and basic data.
        for basic in [
            "0x7",
            "e3c9e316-0b5c-4db8-817d-f92df00215ae",
            "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
        ] {
            assert_eq!(kind(&part(basic)), None, "{basic}");
        }
    }
}
