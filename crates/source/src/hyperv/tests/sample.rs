//! A machine as Hyper-V writes it, as keys and values in the order of the file.

/// A value and its type as the XML names it.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Text(String),
    Integer(i64),
    Bool(bool),
    Bytes(Vec<u8>),
}

/// Paths below `configuration`, and what is there.
pub(crate) type Keys = Vec<(String, Item)>;

pub(crate) const ID: &str = "0AA394FA-7C4A-4070-BA32-773D43B28A68";
const NIC: &str = "55225880-49C0-4438-9CE2-5A01402FD8CB";
const LEGACY: &str = "8A8D3E4F-0D1B-4A39-9E58-1C1B5B6D0E11";
const SCSI: &str = "D7A36E9B-9256-4F0D-BE2C-3A13887F7B03";
const SECOND_SCSI: &str = "1B3E7C4A-22B6-4BE0-8C55-7A7F6D5E4C3B";

fn text(path: impl Into<String>, value: impl Into<String>) -> (String, Item) {
    (path.into(), Item::Text(value.into()))
}

fn number(path: impl Into<String>, value: i64) -> (String, Item) {
    (path.into(), Item::Integer(value))
}

fn yes(path: impl Into<String>, value: bool) -> (String, Item) {
    (path.into(), Item::Bool(value))
}

fn settings(id: &str) -> String {
    format!("_{}_", id.to_lowercase())
}

fn vdev(keys: &mut Keys, number_of: u32, device: &str, instance: &str, name: &str) {
    let front = format!("manifest/vdev{number_of:03}");
    keys.push(text(format!("{front}/device"), device));
    keys.push(number(format!("{front}/flags"), 1));
    keys.push(text(format!("{front}/instance"), instance));
    keys.push(text(format!("{front}/name"), name));
}

pub(crate) fn drive(keys: &mut Keys, controller: &str, place: (u32, u32), kind: &str, path: &str) {
    let front = format!(
        "{}/controller{}/drive{}",
        settings(controller),
        place.0,
        place.1
    );
    if kind == "VHD" {
        keys.push(number(format!("{front}/iops_limit"), 0));
    }
    keys.push(text(format!("{front}/pathname"), path));
    keys.push(text(format!("{front}/type"), kind));
}

fn adapter(keys: &mut Keys, instance: &str, mac: &str, is_static: bool, switch: Option<&str>) {
    let front = settings(instance);
    keys.push(yes(format!("{front}/ClusterMonitored"), true));
    if let Some(switch) = switch {
        keys.push(text(
            format!("{front}/Connection/AltPortName"),
            "Dynamic Ethernet Switch Port",
        ));
        keys.push(text(format!("{front}/Connection/AltSwitchName"), switch));
    }
    keys.push(text(format!("{front}/FriendlyName"), "Network Adapter"));
    keys.push(yes(format!("{front}/IsConnected"), switch.is_some()));
    keys.push(text(format!("{front}/MacAddress"), mac));
    keys.push(yes(format!("{front}/MacAddressIsStatic"), is_static));
    keys.push(number(format!("{front}/VDEVVersion"), 768));
}

fn common(keys: &mut Keys, name: &str, generation: i64) {
    keys.push((
        "properties/creation_time".into(),
        Item::Bytes(vec![0xd0, 0x07, 0x33, 0x11, 0x9c, 0xfb, 0xcf, 0x01]),
    ));
    keys.push(text("properties/global_id", ID));
    keys.push(text("properties/name", name));
    keys.push(text("properties/notes", ""));
    keys.push(number("properties/subtype", generation - 1));
    keys.push(text("properties/type_id", "Virtual Machines"));
    keys.push(number(
        "properties/version",
        if generation == 1 { 1280 } else { 2304 },
    ));
    keys.push(yes(
        "settings/memory/bank/dynamic_memory_enabled",
        generation == 2,
    ));
    keys.push(number("settings/memory/bank/limit", 1_048_576));
    keys.push(number("settings/memory/bank/reservation", 512));
    keys.push(number("settings/memory/bank/size", 1024));
    keys.push(number("settings/processors/count", 2));
    keys.push(text(
        "global_settings/devices/generation_id",
        "fd66d6917bb7cdbf9a906875a3cf499b",
    ));
    // Elements of one name stand beside each other in the real thing.
    for kind in [
        "B637F346-6A0E-4DEC-AF52-BD70CB80A21D",
        "4764334D-E001-4176-82EE-5594EC9B530E",
    ] {
        keys.push(text("global_settings/metrics/devicetype/guid", kind));
    }
}

/// 2012 R2, generation 1: two IDE disks, a DVD drive, a floppy drive, one adapter of each kind, an empty SCSI controller.
pub(crate) fn generation_1() -> Keys {
    let mut keys = Keys::new();
    adapter(
        &mut keys,
        NIC,
        "00-15-5D-01-07-DC",
        false,
        Some("Virtual External Switch"),
    );
    adapter(&mut keys, LEGACY, "00-15-5D-01-07-DD", true, None);
    let ide = "83f8638b-8dca-4152-9eda-2ca8b33039b4";
    drive(
        &mut keys,
        ide,
        (0, 0),
        "VHD",
        r"C:\VMs\web\Virtual Hard Disks\web.vhd",
    );
    drive(&mut keys, ide, (0, 1), "VHD", r"D:\Data\web-data.vhd");
    drive(&mut keys, ide, (1, 0), "ISO", "");
    drive(&mut keys, ide, (1, 1), "NONE", "");
    drive(
        &mut keys,
        "8f0d2762-0b00-4e04-af4f-19010527cb93",
        (0, 0),
        "VFD",
        "",
    );
    let bios = "_ac6b8dc1-3257-4a70-b1b2-a9c9215659ad_";
    keys.push(text(
        format!("{bios}/bios_guid"),
        "{7FFEE066-9755-4950-9A16-4C94AC67AD00}",
    ));
    keys.push(text(
        format!("{bios}/bios_serial_number"),
        "1981-9952-3234-1295-3674-7651-98",
    ));
    keys.push(yes(format!("{bios}/secure_boot_enabled"), false));
    keys.push(text(
        format!("{}/ChannelInstanceGuid", settings(SCSI)),
        "{125506a8-a651-4852-87ad-3e7a29dd07fa}",
    ));
    vdev(
        &mut keys,
        1,
        "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778",
        NIC,
        "Synthetic Ethernet Port",
    );
    vdev(
        &mut keys,
        2,
        "d422512d-2bf2-4752-809d-7b82b5fcb1b4",
        SCSI,
        "Synthetic SCSI Controller",
    );
    vdev(
        &mut keys,
        3,
        "aed9c8a1-7c6f-4b53-93f2-3a2d7f1c0e55",
        LEGACY,
        "Emulated Ethernet Port",
    );
    keys.push(number("manifest/size", 3));
    common(&mut keys, "web", 1);
    keys
}

/// 2019, generation 2: secure boot, TPM, two SCSI controllers, a DVD drive, a checkpoint's file on top.
pub(crate) fn generation_2() -> Keys {
    let mut keys = Keys::new();
    adapter(&mut keys, NIC, "00155D0107DE", true, Some("LAN"));
    drive(
        &mut keys,
        SCSI,
        (0, 1),
        "VHD",
        r"C:\VMs\db\Virtual Hard Disks\db-data.vhdx",
    );
    drive(
        &mut keys,
        SCSI,
        (0, 0),
        "VHD",
        r"C:\VMs\db\Virtual Hard Disks\db_7D3B0A1C-2E0B-4D0A-9A54-1B9D5E2F3C4D.avhdx",
    );
    drive(&mut keys, SCSI, (0, 2), "ISO", r"C:\ISO\Server 2019.iso");
    drive(
        &mut keys,
        SECOND_SCSI,
        (0, 0),
        "VHD",
        r"C:\ClusterStorage\Volume1\log.vhdx",
    );
    let bios = "_ac6b8dc1-3257-4a70-b1b2-a9c9215659ad_";
    keys.push(text(
        format!("{bios}/bios_guid"),
        "{1D6E4A0B-3C5F-4E7D-8B9A-0F1E2D3C4B5A}",
    ));
    keys.push(yes(format!("{bios}/secure_boot_enabled"), true));
    vdev(
        &mut keys,
        1,
        "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778",
        NIC,
        "Synthetic Ethernet Port",
    );
    vdev(
        &mut keys,
        2,
        "736e6aa9-a3f8-49c0-9550-a963214d259a",
        "736E6AA9-A3F8-49C0-9550-A963214D259A",
        "Microsoft Virtual TPM Device",
    );
    vdev(
        &mut keys,
        9,
        "d422512d-2bf2-4752-809d-7b82b5fcb1b4",
        SCSI,
        "Synthetic SCSI Controller",
    );
    vdev(
        &mut keys,
        10,
        "d422512d-2bf2-4752-809d-7b82b5fcb1b4",
        SECOND_SCSI,
        "Synthetic SCSI Controller",
    );
    keys.push(number("manifest/size", 4));
    common(&mut keys, "db", 2);
    keys
}

/// The value at `path`, exchanged.
pub(crate) fn with(mut keys: Keys, path: &str, item: Item) -> Keys {
    keys.iter_mut().find(|(other, _)| other == path).unwrap().1 = item;
    keys
}

/// Nested elements.
#[derive(Default)]
struct Element {
    children: Vec<(String, Element)>,
    item: Option<Item>,
}

impl Element {
    fn put(&mut self, path: &str, item: Item) {
        let (name, rest) = path
            .split_once('/')
            .map_or((path, None), |(a, b)| (a, Some(b)));
        let fresh = name == "devicetype" || !self.children.iter().any(|(other, _)| other == name);
        if fresh {
            self.children.push((name.to_owned(), Element::default()));
        }
        let (_, child) = self
            .children
            .iter_mut()
            .rfind(|(other, _)| other == name)
            .unwrap();
        match rest {
            Some(rest) => child.put(rest, item),
            None => child.item = Some(item),
        }
    }

    fn write(&self, name: &str, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
        let (kind, value) = match &self.item {
            None => {
                *out += &format!("{indent}<{name}>\r\n");
                for (name, child) in &self.children {
                    child.write(name, depth + 1, out);
                }
                *out += &format!("{indent}</{name}>\r\n");
                return;
            }
            Some(Item::Text(text)) => ("string", escape(text)),
            Some(Item::Integer(number)) => ("integer", number.to_string()),
            Some(Item::Bool(true)) => ("bool", "True".to_owned()),
            Some(Item::Bool(false)) => ("bool", "False".to_owned()),
            Some(Item::Bytes(_)) => ("bytes", "0AczEZz7zwE=".to_owned()),
        };
        *out += &format!("{indent}<{name} type=\"{kind}\">{value}</{name}>\r\n");
    }
}

/// The document as text.
pub(crate) fn xml(keys: &Keys) -> String {
    let mut root = Element::default();
    for (path, item) in keys {
        root.put(path, item.clone());
    }
    let mut out = "<?xml version=\"1.0\" encoding=\"UTF-16\" standalone=\"yes\"?>\r\n".to_owned();
    root.write("configuration", 0, &mut out);
    out
}

/// The document as Hyper-V writes it.
pub(crate) fn xml_utf16(keys: &Keys) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(xml(keys).encode_utf16().flat_map(u16::to_le_bytes));
    bytes
}
