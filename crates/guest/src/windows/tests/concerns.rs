//! Each concern on a guest that has it, and none of them on one that has not.

use registry::Value;
use types::{Concern, Severity};

use super::machine;
use super::machine::Machine;
use super::storage::partition;
use crate::windows::hives::Which;

fn has(concerns: &[Concern], severity: Severity, words: &str) -> bool {
    concerns
        .iter()
        .any(|concern| concern.severity == severity && concern.what.contains(words))
}

/// Changes a guest and expects one concern with these words more than it had.
fn expect(name: &str, severity: Severity, words: &str, change: impl FnOnce(&mut Machine)) {
    let mut machine = machine(name);
    assert!(
        !has(&machine.inspect().concerns, severity, words),
        "there without it: {words}"
    );
    change(&mut machine);
    machine.save();
    let found = machine.inspect().concerns;
    assert!(has(&found, severity, words), "{words}: {found:#?}");
}

#[test]
fn a_guest_in_order_has_few() {
    for name in ["8.1", "10", "2k22"] {
        let concerns = machine(name).inspect().concerns;
        assert!(concerns.is_empty(), "{name}: {concerns:#?}");
    }
}

#[test]
fn policies_that_forbid_drivers_are_told() {
    let key = "Policies\\Microsoft\\Windows\\DeviceInstall\\Restrictions";
    let words = "forbids to install devices";
    expect("2k19", Severity::Warning, words, |machine| {
        machine.set(Which::Software, key, "DenyUnspecified", &Value::dword(1));
    });
    expect("2k19", Severity::Warning, words, |machine| {
        machine.set(Which::Software, key, "DenyDeviceIDs", &Value::dword(1));
        let list = format!("{key}\\DenyDeviceIDs");
        machine.set(
            Which::Software,
            &list,
            "1",
            &Value::text("PCI\\VEN_1AF4&DEV_1041"),
        );
    });
    expect("2k19", Severity::Warning, words, |machine| {
        machine.set(Which::Software, key, "DenyDeviceClasses", &Value::dword(1));
        let list = format!("{key}\\DenyDeviceClasses");
        let class = Value::text("{4d36e972-e325-11ce-bfc1-08002be10318}");
        machine.set(Which::Software, &list, "1", &class);
    });
    expect("11", Severity::Warning, "Application Control", |machine| {
        machine.put("Windows/System32/CodeIntegrity/SIPolicy.p7b", b"x");
    });
}

#[test]
fn the_domain_and_encryption_are_told() {
    expect("2k16", Severity::Warning, "domain controller", |machine| {
        let value = Value::text("LanmanNT");
        machine.control("Control\\ProductOptions", "ProductType", &value);
    });
    expect("10", Severity::Warning, "BitLocker", |machine| {
        machine.control("Control\\BitLockerStatus", "BootStatus", &Value::dword(1));
    });
    expect("11", Severity::Info, "Secure Boot", |machine| {
        let key = "Control\\SecureBoot\\State";
        machine.control(key, "UEFISecureBootEnabled", &Value::dword(1));
    });
    expect("11", Severity::Info, "TPM", |machine| {
        let key = "Enum\\ACPI\\MSFT0101\\1";
        machine.control(key, "Service", &Value::text("TPM"));
    });
    expect("7-x64", Severity::Info, "OEM", |machine| {
        let key = "Microsoft\\Windows NT\\CurrentVersion";
        let id = Value::text("00359-OEM-8992687-00057");
        machine.set(Which::Software, key, "ProductId", &id);
    });
}

#[test]
fn filters_are_told_those_of_windows_are_not() {
    let class = "Control\\Class\\{4D36E967-E325-11CE-BFC1-08002BE10318}";
    expect(
        "2k12r2",
        Severity::Warning,
        "filter its disks: snapman",
        |machine| {
            machine.control(
                class,
                "LowerFilters",
                &Value::multi(&["EhStorClass", "snapman"]),
            );
            machine.control("Services\\snapman", "Start", &Value::dword(0));
        },
    );
    expect(
        "2k12r2",
        Severity::Warning,
        "are not installed: gone",
        |machine| {
            machine.control(class, "UpperFilters", &Value::multi(&["partmgr", "gone"]));
        },
    );
}

#[test]
fn storage_that_is_more_than_a_partition_is_told() {
    expect("2k8r2", Severity::Warning, "EMC PowerPath", |machine| {
        machine.control("Services\\EmcpBase", "Start", &Value::dword(0));
    });
    expect("2k8r2", Severity::Info, "Multipath I/O", |machine| {
        machine.control("Services\\mpio", "Start", &Value::dword(0));
    });
    expect("2k16", Severity::Warning, "dynamic disks", |machine| {
        let data = partition(9, "", 1 << 30, "af9b60a0-1431-4f62-bc68-3311714a69ad", "x");
        machine.storage.devices.insert(1, data);
    });
    expect("2k16", Severity::Warning, "storage pool", |machine| {
        let data = partition(9, "", 1 << 30, "e75caf8f-f680-4cee-afa3-b001e56efc2d", "x");
        machine.storage.devices.insert(1, data);
    });
    expect(
        "2k16",
        Severity::Info,
        "page file on another volume (D:)",
        |machine| {
            let files = Value::multi(&["C:\\pagefile.sys 0 0", "D:\\pagefile.sys 0 0"]);
            let key = "Control\\Session Manager\\Memory Management";
            machine.control(key, "PagingFiles", &files);
        },
    );
    expect("10", Severity::Info, "shadow copies", |machine| {
        for id in ["", "{11111111-2222-3333-4444-555555555555}"] {
            let store = "{3808876b-c176-4e48-b7ae-04046e6cc752}";
            machine.put(&format!("System Volume Information/{id}{store}"), b"x");
        }
    });
    expect("2k12r2", Severity::Info, "iSCSI", |machine| {
        let key =
            "Control\\Class\\{4D36E97B-E325-11CE-BFC1-08002BE10318}\\0003\\PersistentTargets\\t";
        machine.control(key, "TargetName", &Value::text("iqn.x"));
    });
}

#[test]
fn its_state_is_told() {
    let servicing = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing";
    expect(
        "10",
        Severity::Warning,
        "waits for its next start",
        |machine| {
            let key = format!("{servicing}\\RebootPending");
            machine.software.create_key(&key).unwrap();
        },
    );
    expect(
        "10",
        Severity::Warning,
        "in the middle of an update",
        |machine| {
            machine.put("Windows/WinSxS/pending.xml", b"<x/>");
        },
    );
    expect("10", Severity::Info, "replaced or removed", |machine| {
        let names = Value::multi(&["\\??\\C:\\a"]);
        machine.control(
            "Control\\Session Manager",
            "PendingFileRenameOperations",
            &names,
        );
    });
    expect("2k25", Severity::Info, "Sysprep", |machine| {
        let key = "Microsoft\\Windows\\CurrentVersion\\Setup\\State";
        let state = Value::text("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE");
        machine.set(Which::Software, key, "ImageState", &state);
    });
    expect("2k25", Severity::Warning, "is not finished", |machine| {
        machine.set(
            Which::System,
            "Setup",
            "SystemSetupInProgress",
            &Value::dword(1),
        );
    });
    expect(
        "10",
        Severity::Warning,
        "more than one Windows",
        |machine| {
            machine.put("Win2/System32/config/SYSTEM", b"regf");
        },
    );
    expect(
        "xp",
        Severity::Warning,
        "nothing was found that starts it",
        |machine| {
            std::fs::remove_file(machine.path().join("ntldr")).unwrap();
        },
    );
    expect(
        "10",
        Severity::Warning,
        "more than one Windows",
        |machine| {
            machine.put("WINNT/system32/config/system", b"regf");
        },
    );
}

#[test]
fn programs_and_adapters_are_told() {
    expect("10", Severity::Warning, "CrowdStrike Falcon", |machine| {
        machine.control("Services\\csagent", "Start", &Value::dword(1));
    });
    expect("2k19", Severity::Warning, "failover cluster", |machine| {
        machine.control("Services\\ClusSvc", "Start", &Value::dword(2));
    });
    expect("2k19", Severity::Warning, "a team, a bridge", |machine| {
        let key = format!("Control\\Class\\{}\\0000", super::machine::NET_CLASS);
        let team = Value::text("COMPOSITEBUS\\MS_IMPLAT_MP\\{1}");
        machine.control(&key, "DeviceInstanceID", &team);
    });
    let hyperv = machine("2k16").inspect().concerns;
    assert!(has(
        &hyperv,
        Severity::Info,
        "does not say which hardware address"
    ));
}

#[test]
fn versions_without_drivers_are_told() {
    let old = machine("2k3").inspect().concerns;
    assert!(has(&old, Severity::Info, "in old releases only"));
    expect("xp", Severity::Warning, "gets an IDE disk", |machine| {
        let key = "Microsoft\\Windows NT\\CurrentVersion";
        machine.set(Which::Software, key, "CurrentVersion", &Value::text("5.0"));
    });
}

#[test]
fn sleep_blocks_and_says_how_to_wake() {
    for (name, command) in [("10", "powercfg /h off"), ("xp", "powercfg /hibernate off")] {
        let machine = machine(name);
        machine.put("hiberfil.sys", b"HIBR\0\0");
        let concerns = machine.inspect().concerns;
        assert_eq!(concerns[0].severity, Severity::Blocker);
        assert!(concerns[0].fix.as_ref().unwrap().contains(command));
        assert_eq!(concerns[0].what.contains("fast startup"), name == "10");
    }
}
