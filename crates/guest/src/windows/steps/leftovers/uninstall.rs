//! The programs themselves, uninstalled at the first boot: each by a script of its own, none of which can fail the boot.
//!
//! VMware Tools' package refuses to be uninstalled on other hypervisors (error 1603; virt-v2v(1), "Removing VMware
//! Tools"). Its services are off by then; what the script does instead is to take away its registration with Windows
//! Installer, its services and its files, so that neither Windows nor an update finds half of it.

use types::WindowsProgram;

use crate::windows::convert::Context;
use crate::windows::firstboot::Phase;

/// Seconds that an uninstaller may take.
const PATIENCE: u32 = 900;

/// Kinds of programs that are uninstalled; agents of clouds are not, nor what is part of Windows.
const KINDS: &[&str] = &["vmware", "virtualbox", "xen", "parallels", "nutanix"];
/// Words in the names of packages that bring virtio drivers, which are used now (Nutanix VirtIO, SUSE's Virtual Machine
/// Driver Pack).
const DRIVERS: &[&str] = &["virtio", "vmdp", "driver pack"];

/// Plans the scripts; what has no uninstaller that can run unattended is named to the administrator.
pub(super) fn plan(context: &mut Context<'_>) {
    for program in &context.windows.tools {
        let name = program.name.to_lowercase();
        let drivers = DRIVERS.iter().any(|word| name.contains(word));
        if drivers || !KINDS.contains(&program.kind.as_str()) {
            continue;
        }
        match script(program) {
            Some(script) if context.programs.is_some() => {
                let name = format!("uninstall-{}", program.kind);
                context.firstboot.add(Phase::Leftovers, &name, script);
            }
            _ => context.recorder.warn(format!(
                "{} stays installed, its services disabled: uninstall it by hand",
                program.name
            )),
        }
    }
}

/// The batch file that uninstalls a program; `None` when it is not known how.
pub(super) fn script(program: &WindowsProgram) -> Option<String> {
    if let Some(code) = program.product_code.as_deref() {
        return msi(&program.kind, code);
    }
    let uninstaller = program.uninstall.as_deref().and_then(path)?;
    let (dir, file) = uninstaller.rsplit_once('\\')?;
    if program.kind != "virtualbox" || !file.eq_ignore_ascii_case("uninst.exe") {
        return None;
    }
    // NSIS copies its uninstaller elsewhere and does not wait for the copy, unless told the directory (NSIS manual 4.14,
    // "Uninstaller Command Line Parameters": `_?=` is the last one and takes no quotes).
    Some(lines(&[
        format!("rem v2v-timeout {}", PATIENCE + 300),
        format!("if not exist \"{uninstaller}\" exit /b 0"),
        format!("\"{uninstaller}\" /S _?={dir}"),
        "set code=%ERRORLEVEL%".to_owned(),
        format!("if \"%code%\"==\"0\" del /f /q \"{uninstaller}\""),
        "exit /b %code%".to_owned(),
    ]))
}

/// The path of a program, with or without quotes; nothing that cmd.exe would understand in another way.
fn path(uninstall: &str) -> Option<String> {
    let path = uninstall.trim().trim_matches('"');
    let plain = path.len() < 260
        && path.contains(":\\")
        && path
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " \\:._-()".contains(c));
    plain.then(|| path.to_owned())
}

/// Windows Installer's exit codes (Windows Installer, "Error Codes"): 1605 not installed, 1618 another installation is
/// running, 1641 and 3010 a reboot is wanted, which the next one will do as well.
fn msi(kind: &str, code: &str) -> Option<String> {
    let digits = code.strip_prefix('{')?.strip_suffix('}')?;
    let groups: Vec<usize> = digits.split('-').map(str::len).collect();
    let hexadecimal = |c: char| c.is_ascii_hexdigit() || c == '-';
    if groups != [8, 4, 4, 4, 12] || !digits.chars().all(hexadecimal) {
        return None;
    }
    let code = code.to_uppercase();
    let mut script = vec![
        format!("rem v2v-timeout {}", PATIENCE * 2),
        "set tries=0".to_owned(),
        ":again".to_owned(),
        format!("msiexec.exe /x {code} /qn /norestart REBOOT=ReallySuppress"),
        "set code=%ERRORLEVEL%".to_owned(),
        "if \"%code%\"==\"0\" exit /b 0".to_owned(),
        "if \"%code%\"==\"1605\" exit /b 0".to_owned(),
        "if \"%code%\"==\"1641\" exit /b 0".to_owned(),
        "if \"%code%\"==\"3010\" exit /b 0".to_owned(),
        "set /a tries=tries+1".to_owned(),
        "if \"%code%\"==\"1618\" if %tries% lss 10 (ping -n 31 127.0.0.1 >nul & goto again)"
            .to_owned(),
    ];
    if kind == "vmware" {
        script.extend(by_hand(&code, digits)?);
    }
    script.push("exit /b %code%".to_owned());
    Some(lines(&script))
}

/// What takes VMware Tools away without its own help.
fn by_hand(code: &str, digits: &str) -> Option<Vec<String>> {
    let packed = packed(digits)?;
    let mut script =
        vec!["echo the uninstaller refused with %code%; taking it away by hand".to_owned()];
    let services = super::products::PRODUCTS
        .iter()
        .find(|product| product.kind == "vmware")?
        .services;
    // Drivers stay, disabled: their devices' packages are still in the driver store.
    for service in services.iter().filter(|name| PROGRAMS.contains(name)) {
        script.push(format!("sc delete \"{service}\" >nul 2>&1"));
    }
    let keys = [
        format!("HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\{code}"),
        format!("HKLM\\SOFTWARE\\Classes\\Installer\\Products\\{packed}"),
        format!("HKLM\\SOFTWARE\\Classes\\Installer\\Features\\{packed}"),
        format!(
            "HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Installer\\UserData\\S-1-5-18\\Products\\{packed}"
        ),
        "HKLM\\SOFTWARE\\VMware, Inc.\\VMware Tools".to_owned(),
    ];
    script.extend(
        keys.iter()
            .map(|key| format!("reg delete \"{key}\" /f >nul 2>&1")),
    );
    for value in [
        "VMware User Process",
        "VMware Tools",
        "VMware VM3DService Process",
    ] {
        script.push(format!(
            "reg delete HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Run /v \"{value}\" /f >nul 2>&1"
        ));
    }
    script.push("rd /s /q \"%ProgramFiles%\\VMware\\VMware Tools\" 2>nul".to_owned());
    script.push("exit /b 0".to_owned());
    Some(script)
}

/// Services that are programs below the directory of VMware Tools.
const PROGRAMS: &[&str] = &[
    "VMTools",
    "VMUpgradeHelper",
    "VMware Physical Disk Helper Service",
    "VGAuthService",
    "vmvss",
    "VMwareCAFCommAmqpListener",
    "VMwareCAFManagementAgentHost",
    "TPAutoConnSvc",
    "TPVCGateway",
    "VMMEMCTL",
    "vmrawdsk",
];

/// A product code as Windows Installer names keys: the first three groups backwards, the digits of the rest in pairs
/// turned round.
fn packed(digits: &str) -> Option<String> {
    let groups: Vec<&str> = digits.split('-').collect();
    let [a, b, c, d, e] = groups.as_slice() else {
        return None;
    };
    let mut packed = String::with_capacity(32);
    for group in [a, b, c] {
        packed.extend(group.chars().rev());
    }
    let rest = format!("{d}{e}");
    for pair in rest.as_bytes().as_chunks::<2>().0 {
        packed.extend(pair.iter().rev().map(|digit| char::from(*digit)));
    }
    Some(packed.to_uppercase())
}

fn lines(lines: &[String]) -> String {
    lines.join("\r\n") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(kind: &str, uninstall: Option<&str>, code: Option<&str>) -> WindowsProgram {
        WindowsProgram {
            kind: kind.to_owned(),
            name: "Tools".to_owned(),
            uninstall: uninstall.map(str::to_owned),
            product_code: code.map(str::to_owned),
        }
    }

    #[test]
    fn product_codes_are_packed_as_windows_installer_does() {
        // VMware Tools 8.0.2, whose keys are in the hive of the fixtures.
        assert_eq!(
            packed("FE2F6A2C-196E-4210-9C04-2B1BC21F07EF").unwrap(),
            "C2A6F2EFE6910124C940B2B12CF170FE"
        );
    }

    #[test]
    fn vmware_tools_are_taken_away_by_hand_when_they_refuse() {
        let code = "{FE2F6A2C-196E-4210-9C04-2B1BC21F07EF}";
        let script = script(&program("vmware", Some("MsiExec.exe /X{…}"), Some(code))).unwrap();
        let place = |text: &str| script.find(text).unwrap_or_else(|| panic!("{text}"));
        assert!(place("msiexec.exe /x {FE2F6A2C") < place("by hand"));
        assert!(place("\"1605\" exit /b 0") < place("by hand"));
        place("Installer\\Products\\C2A6F2EFE6910124C940B2B12CF170FE\"");
        place("sc delete \"VMTools\"");
        assert!(!script.contains("sc delete \"vmci\"") && script.ends_with("exit /b %code%\r\n"));
        // Others are not.
        let other = super::script(&program("xen", None, Some(code))).unwrap();
        assert!(!other.contains("by hand"));
    }

    #[test]
    fn virtualbox_is_uninstalled_in_place() {
        let path = "C:\\Program Files\\Oracle\\VirtualBox Guest Additions\\uninst.exe";
        let script = script(&program("virtualbox", Some(path), None)).unwrap();
        let want =
            format!("\"{path}\" /S _?=C:\\Program Files\\Oracle\\VirtualBox Guest Additions\r\n");
        assert!(script.contains(&want), "{script}");
    }

    #[test]
    fn a_hostile_registry_writes_no_batch_files() {
        for (uninstall, code) in [
            (Some("C:\\x\" & format c: & \"\\uninst.exe"), None),
            (Some("C:\\x%PATH%\\uninst.exe"), None),
            (Some("C:\\x\\other.exe"), None),
            (None, Some("{FE2F6A2C-196E-4210-9C04-2B1BC21F07EF} & del")),
            (None, Some("{& & &}")),
            (None, None),
        ] {
            assert!(script(&program("virtualbox", uninstall, code)).is_none());
        }
    }
}
