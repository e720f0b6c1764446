//! Guests that mean ill, or are broken.

use registry::Value;

use super::machine;
use crate::ErrorKind;
use crate::windows::hives::Which;

#[test]
fn words_of_the_registry_are_fit_for_a_terminal() {
    let mut machine = machine("10");
    let evil = Value::text(&format!("\u{1b}[2J\u{202e}\n{}", "x".repeat(100_000)));
    let key = "Microsoft\\Windows NT\\CurrentVersion";
    for name in ["ProductName", "EditionID", "DisplayVersion", "SystemRoot"] {
        machine.set(Which::Software, key, name, &evil);
    }
    let uninstall = "Microsoft\\Windows\\CurrentVersion\\Uninstall\\X";
    let tools = Value::text(&format!("VMware Tools \u{1b}]0;x\u{7}{}", "y".repeat(9999)));
    machine.set(Which::Software, uninstall, "DisplayName", &tools);
    machine.control("Services\\Tcpip\\Parameters", "NV Hostname", &evil);
    let connection = format!(
        "Control\\Network\\{}\\{}\\Connection",
        super::machine::NET_CLASS,
        super::machine::FIXED
    );
    machine.control(&connection, "Name", &evil);
    machine.save();
    let guest = machine.inspect();
    let text = serde_json::to_string(&guest).unwrap();
    assert!(
        !text.contains("\\u001b") && !text.contains('\u{202e}'),
        "{text}"
    );
    assert!(text.len() < 32 << 10, "{} bytes", text.len());
}

#[test]
fn values_of_other_types_are_no_values() {
    let mut machine = machine("2k19");
    let key = "Microsoft\\Windows NT\\CurrentVersion";
    for name in [
        "CurrentMajorVersionNumber",
        "UBR",
        "ProductName",
        "CurrentBuildNumber",
    ] {
        machine.set(Which::Software, key, name, &Value::binary([1, 2, 3]));
    }
    let ip = format!(
        "Services\\Tcpip\\Parameters\\Interfaces\\{}",
        super::machine::FIXED
    );
    for name in [
        "IPAddress",
        "SubnetMask",
        "DefaultGateway",
        "NameServer",
        "EnableDHCP",
    ] {
        machine.control(&ip, name, &Value::binary([0xff; 7]));
    }
    machine.set(
        Which::System,
        "MountedDevices",
        "\\DosDevices\\",
        &Value::dword(1),
    );
    machine.save();
    let guest = machine.inspect();
    assert_eq!(guest.product_name, "Windows");
    assert_eq!(guest.windows.unwrap().drive, "C");
}

#[test]
fn addresses_that_are_none_are_left_out() {
    let mut machine = machine("7-x64");
    let ip = format!(
        "Services\\Tcpip\\Parameters\\Interfaces\\{}",
        super::machine::FIXED
    );
    let addresses = ["192.0.2.300", "192.0.2.1", "0.0.0.0", "192.0.2.2"];
    let masks = ["255.255.255.0", "255.0.255.0", "0.0.0.0", "255.255.255.252"];
    machine.control(&ip, "IPAddress", &Value::multi(&addresses));
    machine.control(&ip, "SubnetMask", &Value::multi(&masks));
    machine.control(&ip, "DefaultGateway", &Value::multi(&["x", "0.0.0.0"]));
    machine.save();
    let adapters = machine.inspect().windows.unwrap().adapters;
    assert_eq!(adapters[0].addresses[0], ("192.0.2.2".parse().unwrap(), 30));
    assert!(
        !adapters[0]
            .gateways
            .iter()
            .any(|(gateway, _)| gateway.is_ipv4())
    );
}

#[test]
fn broken_hives_are_refused() {
    for (path, content) in [
        ("Windows/System32/config/SYSTEM", &b""[..]),
        ("Windows/System32/config/SYSTEM", &[0; 8192]),
        ("Windows/System32/config/SOFTWARE", b"regf"),
    ] {
        let machine = machine("10");
        machine.put(path, content);
        let error = machine.try_inspect().unwrap_err();
        assert!(error.path().unwrap().contains("config/S"), "{error}");
    }
    let machine = machine("10");
    std::fs::remove_file(machine.path().join("Windows/System32/config/SOFTWARE")).unwrap();
    assert_eq!(
        machine.try_inspect().unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_registry_without_control_sets_is_refused() {
    let mut machine = machine("10");
    for set in ["ControlSet001", "ControlSet002"] {
        machine.system.delete_key(set).unwrap();
    }
    machine.save();
    let error = machine.try_inspect().unwrap_err().to_string();
    assert!(error.contains("control set"), "{error}");
}

#[test]
fn a_hive_that_is_a_link_out_of_the_guest_is_not_followed() {
    let machine = machine("10");
    let hive = machine.path().join("Windows/System32/config/SOFTWARE");
    std::fs::remove_file(&hive).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &hive).unwrap();
    assert!(machine.try_inspect().is_err());
}

#[test]
fn a_boot_volume_with_rubbish_does_not_matter() {
    let machine = machine("2k19");
    machine.put_boot("EFI/Microsoft/Boot/BCD", &[0xff; 10_000]);
    assert_eq!(machine.inspect().boot_loaders[0].kind, "windows-efi");
}
