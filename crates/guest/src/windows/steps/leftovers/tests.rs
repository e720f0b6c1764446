use registry::{Hive, Logs, Value};
use types::WindowsProgram;

use super::apply;
use crate::windows::steps::testing::Guest;

const SETS: [&str; 2] = ["ControlSet001", "ControlSet002"];
const CD: &str = "Enum\\ACPI\\PNP0F13\\4&25ee97c0&0";
const MICE: &str = "Control\\Class\\{4d36e96f-e325-11ce-bfc1-08002be10318}";
const HDC: &str = "Control\\Class\\{4d36e96a-e325-11ce-bfc1-08002be10318}";
const ORDER: &str = "Control\\NetworkProvider\\Order";

fn guest(services: &[(&str, u32)]) -> Guest {
    let mut guest = Guest::new();
    guest.windows.control_sets = SETS.iter().map(|set| (*set).to_owned()).collect();
    for set in SETS {
        for (service, start) in services {
            let path = format!("{set}\\Services\\{service}");
            guest.system(&path, "Start", Value::dword(*start));
        }
    }
    guest
}

fn multi(names: &[&str]) -> Value {
    Value::multi(names)
}

#[test]
fn services_are_off_in_all_control_sets() {
    let mut guest = guest(&[
        ("VMTools", 2),
        ("vsepflt", 0),
        ("pvscsi", 0),
        ("Tcpip", 1),
        ("prl_strg", 0),
        ("vmicheartbeat", 2),
        ("vmicvss", 3),
        ("storvsc", 0),
        ("SomeOther", 2),
    ]);
    guest.system(
        "ControlSet001\\Services\\SomeOther",
        "ImagePath",
        Value::expand("\"C:\\Program Files\\VMware\\VMware Tools\\x.exe\""),
    );
    let outcome = guest.run(apply);
    for (service, start) in [
        ("VMTools", 4),
        ("vsepflt", 4),
        ("prl_strg", 4),
        ("pvscsi", 0),
        ("Tcpip", 1),
        ("storvsc", 0),
        ("vmicheartbeat", 3),
        ("vmicvss", 3),
    ] {
        for set in SETS {
            let path = format!("{set}\\Services\\{service}");
            let want = Some(Value::dword(start));
            assert_eq!(outcome.system(&path, "Start"), want, "{path}");
        }
    }
    // By its directory, in the set that says so.
    let other = "ControlSet001\\Services\\SomeOther";
    assert_eq!(outcome.system(other, "Start"), Some(Value::dword(4)));
    assert_eq!(outcome.changes.len(), 2 * 4 + 1);
    assert!(guest.again(&outcome, apply).changes.is_empty());
}

#[test]
fn filters_and_providers_go_and_their_neighbours_stay() {
    let mut guest = guest(&[("VBoxMouse", 3), ("VBoxSF", 1), ("xenfilt", 0)]);
    for set in SETS {
        let lists = [
            (MICE, "UpperFilters", multi(&["VBoxMouse", "mouclass"])),
            (HDC, "UpperFilters", multi(&["XENFILT"])),
            (HDC, "LowerFilters", multi(&["fvevol", "rdyboost"])),
            (CD, "UpperFilters", multi(&["VMMouse"])),
            (
                "Control\\CriticalDeviceDatabase\\*PNP0F03",
                "UpperFilters",
                multi(&["VMMouse"]),
            ),
            (
                ORDER,
                "ProviderOrder",
                Value::text("VBoxSF,RDPNP,LanmanWorkstation"),
            ),
        ];
        for (key, name, value) in lists {
            guest.system(&format!("{set}\\{key}"), name, value);
        }
    }
    let outcome = guest.run(apply);
    for set in SETS {
        let now = |key: &str, name| outcome.system(&format!("{set}\\{key}"), name);
        assert_eq!(now(MICE, "UpperFilters"), Some(multi(&["mouclass"])));
        assert_eq!(now(HDC, "UpperFilters"), None);
        assert_eq!(
            now(HDC, "LowerFilters"),
            Some(multi(&["fvevol", "rdyboost"]))
        );
        // Its service is gone already; the device would not start all the same.
        assert_eq!(now(CD, "UpperFilters"), None);
        assert_eq!(
            now("Control\\CriticalDeviceDatabase\\*PNP0F03", "UpperFilters"),
            None
        );
        assert_eq!(
            now(ORDER, "ProviderOrder"),
            Some(Value::text("RDPNP,LanmanWorkstation"))
        );
    }
    assert!(guest.again(&outcome, apply).changes.is_empty());
}

#[test]
fn a_guest_that_is_a_host_itself_keeps_what_it_needs() {
    let guest = guest(&[("vmci", 0), ("vsock", 0), ("vmx86", 2), ("VMTools", 2)]);
    let outcome = guest.run(apply);
    let start = |service: &str| {
        let path = format!("ControlSet001\\Services\\{service}");
        outcome
            .system(&path, "Start")
            .and_then(|value| value.as_u32())
    };
    assert_eq!((start("vmci"), start("vsock")), (Some(0), Some(0)));
    assert_eq!(start("VMTools"), Some(4));
}

#[test]
fn programs_are_uninstalled_at_first_boot_or_named() {
    let mut guest = guest(&[("GCEAgent", 2)]);
    let tool = |kind: &str, name: &str, code: Option<&str>| WindowsProgram {
        kind: kind.into(),
        name: name.into(),
        uninstall: None,
        product_code: code.map(str::to_owned),
    };
    guest.windows.tools = vec![
        tool(
            "vmware",
            "VMware Tools",
            Some("{FE2F6A2C-196E-4210-9C04-2B1BC21F07EF}"),
        ),
        tool("parallels", "Parallels Tools", None),
        tool("hyperv", "Integration Services", None),
        tool(
            "nutanix",
            "Nutanix VirtIO",
            Some("{FE2F6A2C-196E-4210-9C04-2B1BC21F07EF}"),
        ),
        tool(
            "aws",
            "Amazon SSM Agent",
            Some("{FE2F6A2C-196E-4210-9C04-2B1BC21F07EF}"),
        ),
    ];
    let outcome = guest.run(apply);
    assert!(
        outcome
            .script("uninstall-vmware")
            .unwrap()
            .contains("msiexec.exe /x {FE2F")
    );
    assert_eq!(outcome.scripts.len(), 1);
    assert_eq!(
        outcome.warnings,
        [
            "Parallels Tools stays installed, its services disabled: uninstall it by hand",
            "Google's guest agent is left as it is: uninstall it if it is not wanted here",
        ]
    );
    guest.programs = false;
    assert!(guest.run(apply).scripts.is_empty());
}

/// Paths that are changed in a machine of the fixtures, without `HKLM\SYSTEM`, and the names of its scripts.
fn of_fixture(name: &str) -> Option<(Vec<String>, Vec<String>)> {
    let hives = crate::tests::fixtures::hives(name)?;
    let open = |bytes: Vec<u8>| Hive::recover(bytes, &Logs::default()).unwrap().hive;
    let mut guest = Guest::with(open(hives.system), open(hives.software));
    guest.windows = guest.inspected();
    let outcome = guest.run(apply);
    assert!(guest.again(&outcome, apply).changes.is_empty());
    let path = |path: &str| path.strip_prefix("HKLM\\SYSTEM\\").unwrap().to_owned();
    let paths = outcome.changes.iter().map(|change| path(&change.path));
    let scripts = outcome.scripts.iter().map(|(name, _)| name.clone());
    Some((paths.collect(), scripts.collect()))
}

#[test]
fn nothing_else_of_the_fixtures_machines_is_changed() {
    let Some((paths, scripts)) = of_fixture("win7-x86-vmware") else {
        return;
    };
    let mut want = Vec::new();
    for set in SETS {
        // vmrawdsk is off already.
        for service in [
            "tpautoconnsvc",
            "vm3dmp",
            "vmci",
            "vmdebug",
            "VMMEMCTL",
            "vmmouse",
            "VMTools",
            "VMUpgradeHelper",
        ] {
            want.push(format!("{set}\\Services\\{service}\\Start"));
        }
    }
    for set in SETS {
        want.push(format!(
            "{set}\\Control\\CriticalDeviceDatabase\\*PNP0F03\\UpperFilters"
        ));
        want.push(format!("{set}\\{CD}\\UpperFilters"));
    }
    assert_eq!(paths, want);
    assert_eq!(scripts, ["uninstall-vmware"]);
    let (paths, scripts) = of_fixture("win81-x64-virtualbox").unwrap();
    assert_eq!(
        paths,
        [
            "ControlSet001\\Services\\VBoxGuest\\Start",
            "ControlSet001\\Services\\VBoxMouse\\Start",
            "ControlSet001\\Services\\VBoxService\\Start",
            "ControlSet001\\Services\\VBoxSF\\Start",
            "ControlSet001\\Services\\VBoxVideoW8\\Start",
            "ControlSet001\\Control\\Class\\{4d36e96f-e325-11ce-bfc1-08002be10318}\\UpperFilters",
            "ControlSet001\\Control\\NetworkProvider\\Order\\ProviderOrder",
            "ControlSet001\\Control\\NetworkProvider\\HwOrder\\ProviderOrder",
        ]
    );
    assert_eq!(scripts, ["uninstall-virtualbox"]);
}
