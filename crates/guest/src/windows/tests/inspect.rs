//! What inspection finds in phony guests.

use types::{Arch, Severity};

use super::machine;
use super::machine::{DYNAMIC, FIXED};
use super::version::VERSIONS;
use crate::windows::hives::Which;
use registry::Value;

#[test]
fn every_release_is_known() {
    for version in VERSIONS {
        let machine = machine(version.name);
        assert!(crate::is_os_root(&machine.root()));
        let guest = machine.inspect();
        let windows = guest.windows.clone().unwrap();
        assert_eq!(
            (
                windows.major,
                windows.minor,
                windows.build,
                windows.revision
            ),
            (
                version.major,
                version.minor,
                version.build,
                version.revision
            ),
            "{}",
            version.name
        );
        assert_eq!(guest.arch, version.arch, "{}", version.name);
        let short = version.name.split('-').next();
        let id = guest.osinfo_id.as_deref();
        assert_eq!(id.and_then(|id| id.rsplit('/').next()), short);
        assert_eq!(guest.hostname.as_deref(), Some("phony"));
        assert_eq!(windows.system_root, format!("/{}", version.folder()));
        assert_eq!(windows.control_sets, ["ControlSet001", "ControlSet002"]);
        assert_eq!(windows.core, version.name == "2k22");
        let kind = if version.uefi {
            "windows-efi"
        } else {
            "windows-bios"
        };
        assert_eq!(guest.boot_loaders[0].kind, kind, "{}", version.name);
        let boot = machine.boot_path().map(|_| "/dev/sda1");
        assert_eq!(windows.boot_device.as_deref(), boot);
        let worst = guest.concerns.first().map(|concern| concern.severity);
        assert_ne!(worst, Some(Severity::Blocker), "{:?}", guest.concerns);
    }
}

#[test]
fn adapters_have_their_addresses() {
    let guest = machine("2k19").inspect();
    let adapters = guest.windows.unwrap().adapters;
    assert_eq!(adapters.len(), 2, "tunnels are none: {adapters:?}");
    let fixed = &adapters[0];
    assert_eq!((fixed.id.as_str(), fixed.dhcp), (FIXED, false));
    assert_eq!(fixed.mac.unwrap().to_string(), "00:50:56:95:08:bb");
    let addresses: Vec<String> = fixed
        .addresses
        .iter()
        .map(|(address, prefix)| format!("{address}/{prefix}"))
        .collect();
    assert_eq!(
        addresses,
        ["192.0.2.10/24", "192.0.2.11/25", "2001:db8::5/64"]
    );
    assert_eq!(fixed.gateways[0], ("192.0.2.1".parse().unwrap(), 5));
    assert_eq!(fixed.gateways[1], ("fe80::1".parse().unwrap(), 0));
    assert_eq!(fixed.nameservers.len(), 3);
    assert_eq!(
        (fixed.metric, fixed.domain.as_deref()),
        (Some(10), Some("example.com"))
    );
    let dynamic = &adapters[1];
    assert_eq!((dynamic.id.as_str(), dynamic.dhcp), (DYNAMIC, true));
    assert!(dynamic.addresses.is_empty() && dynamic.mac.is_none());
}

#[test]
fn an_address_that_was_set_by_hand_beats_the_hardware() {
    let mut machine = machine("10");
    let key = format!(
        "ControlSet001\\Control\\Class\\{}\\0000",
        super::machine::NET_CLASS
    );
    machine.set(
        Which::System,
        &key,
        "NetworkAddress",
        &Value::text("02AABBCCDDEE"),
    );
    let noted = format!("ControlSet001\\Control\\NetworkSetup2\\Interfaces\\{DYNAMIC}\\Kernel");
    machine.set(
        Which::System,
        &noted,
        "PermanentAddress",
        &Value::binary([0, 0xc, 0x29, 1, 2, 3]),
    );
    machine.save();
    let adapters = machine.inspect().windows.unwrap().adapters;
    assert_eq!(adapters[0].mac.unwrap().to_string(), "02:aa:bb:cc:dd:ee");
    assert_eq!(adapters[1].mac.unwrap().to_string(), "00:0c:29:01:02:03");
}

#[test]
fn the_kernel_tells_the_architecture_where_the_registry_does_not() {
    for (name, arch) in [
        ("xp", Arch::I686),
        ("10", Arch::X86_64),
        ("11-arm64", Arch::Aarch64),
    ] {
        let mut machine = machine(name);
        let key = "ControlSet001\\Control\\Session Manager\\Environment";
        machine
            .system
            .delete_value(key, "PROCESSOR_ARCHITECTURE")
            .unwrap();
        machine.save();
        assert_eq!(machine.inspect().arch, arch);
    }
}

#[test]
fn the_control_set_of_select_is_read() {
    let mut machine = machine("7-x64");
    machine.set(Which::System, "Select", "Current", &Value::dword(2));
    machine.set(
        Which::System,
        "ControlSet002\\Services\\Tcpip\\Parameters",
        "NV Hostname",
        &Value::text("second"),
    );
    machine.save();
    let guest = machine.inspect();
    assert_eq!(guest.hostname.as_deref(), Some("second"));
    let sets = guest.windows.unwrap().control_sets;
    assert_eq!(sets, ["ControlSet002", "ControlSet001"]);
}

#[test]
fn tools_are_listed_with_what_uninstalls_them() {
    let guest = machine("2k8r2").inspect();
    let tools = guest.windows.unwrap().tools;
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0].kind, "vmware");
    let code = "{5E7F4E5B-2C5C-4BFE-A2A1-6A0E5E6F4D1C}";
    assert_eq!(tools[0].product_code.as_deref(), Some(code));
    assert!(tools[0].uninstall.as_ref().unwrap().ends_with(code));
}

#[test]
fn windows_seven_needs_its_update_for_sha2() {
    for (state, want) in [
        (None, false),
        (Some(0x40), false),
        (Some(0x50), true),
        (Some(0x70), true),
    ] {
        let mut machine = machine("7-x64");
        if let Some(state) = state {
            let key = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages\\Package_1_for_KB4474419~31bf3856ad364e35~amd64~~6.1.3.2";
            machine.set(Which::Software, key, "CurrentState", &Value::dword(state));
        }
        machine.save();
        let guest = machine.inspect();
        assert_eq!(guest.windows.unwrap().sha2, want, "{state:?}");
        let said = guest
            .concerns
            .iter()
            .any(|concern| concern.what.contains("SHA-2"));
        assert_eq!(said, !want);
    }
    assert!(machine("8.1").inspect().windows.unwrap().sha2);
    assert!(!machine("2k3").inspect().windows.unwrap().sha2);
}

#[test]
fn the_letter_is_that_of_the_partition() {
    let mut machine = machine("2k22");
    machine.system.delete_key("MountedDevices").unwrap();
    let place = [
        b"DMIO:ID:".as_slice(),
        &super::bcd::guid_bytes(super::storage::PARTITION),
    ];
    machine.set(
        Which::System,
        "MountedDevices",
        "\\DosDevices\\W:",
        &Value::binary(place.concat()),
    );
    machine.save();
    assert_eq!(machine.inspect().windows.unwrap().drive, "W");
    assert_eq!(super::machine("xp").inspect().windows.unwrap().drive, "C");
}
