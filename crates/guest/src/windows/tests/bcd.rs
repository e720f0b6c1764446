//! Boot configuration data with loaders of Windows.

use registry::{Hive, Value};
use types::Guid;

/// GUID of the disk in [`gpt_device`].
pub(crate) const DISK_GUID: &str = "d15cd15c-0000-4000-8000-000000000001";
const BOOT_MANAGER: &str = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}";

/// Bytes of a GUID as Windows stores them.
pub(crate) fn guid_bytes(guid: &str) -> [u8; 16] {
    guid.parse::<Guid>().unwrap().0
}

fn device(partition: [u8; 16], table: u32, disk: [u8; 16]) -> Vec<u8> {
    let mut data = vec![0; 16];
    for word in [6u32, 0, 0x48, 0] {
        data.extend(word.to_le_bytes());
    }
    data.extend(partition);
    data.extend([0; 4]);
    data.extend(table.to_le_bytes());
    data.extend(disk);
    data.resize(0x58, 0);
    data
}

/// A partition of a disk with a GPT.
pub(crate) fn gpt_device(partition: &str) -> Vec<u8> {
    device(guid_bytes(partition), 0, guid_bytes(DISK_GUID))
}

/// A partition of a disk with an MBR.
pub(crate) fn mbr_device(offset: u64, signature: u32) -> Vec<u8> {
    let (mut partition, mut disk) = ([0; 16], [0; 16]);
    partition[..8].copy_from_slice(&offset.to_le_bytes());
    disk[..4].copy_from_slice(&signature.to_le_bytes());
    device(partition, 1, disk)
}

/// A store with loaders (description, system root, device); the last is the default one.
pub(crate) fn store(loaders: &[(&str, &str, Vec<u8>)]) -> Vec<u8> {
    let mut hive = Hive::create("NewStoreRoot");
    let id = |index: usize| format!("{{00000000-0000-0000-0000-00000000000{index}}}");
    object(&mut hive, BOOT_MANAGER, 0x1010_0002);
    let order: Vec<String> = (0..loaders.len()).map(id).collect();
    element(&mut hive, BOOT_MANAGER, "24000001", &Value::multi(&order));
    element(
        &mut hive,
        BOOT_MANAGER,
        "23000003",
        &Value::text(&id(loaders.len() - 1)),
    );
    for (index, (description, system_root, device)) in loaders.iter().enumerate() {
        let id = id(index);
        let winload = format!("{system_root}\\system32\\winload.efi");
        object(&mut hive, &id, 0x1020_0003);
        element(&mut hive, &id, "11000001", &Value::binary(device.clone()));
        element(&mut hive, &id, "12000002", &Value::text(&winload));
        element(&mut hive, &id, "12000004", &Value::text(description));
        element(&mut hive, &id, "21000001", &Value::binary(device.clone()));
        element(&mut hive, &id, "22000002", &Value::text(system_root));
    }
    hive.to_bytes(0)
}

/// Adds an element to an object of a store.
pub(crate) fn with_element(store: Vec<u8>, object: &str, name: &str, value: &Value) -> Vec<u8> {
    let mut hive = Hive::open(store).unwrap();
    element(&mut hive, object, name, value);
    hive.to_bytes(0)
}

fn object(hive: &mut Hive, id: &str, kind: u32) {
    let key = format!("Objects\\{id}\\Description");
    hive.set(&key, "Type", &Value::dword(kind)).unwrap();
}

fn element(hive: &mut Hive, id: &str, name: &str, value: &Value) {
    let key = format!("Objects\\{id}\\Elements\\{name}");
    hive.set(&key, "Element", value).unwrap();
}
