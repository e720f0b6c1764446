//! qemu-guest-agent, installed at first boot.
//!
//! Its package is the one of `--qemu-ga`, else that of the virtio-win tree (`guest-agent/qemu-ga-x86_64.msi`). The
//! balloon's service is put beside it and registers itself: without it the host sees no memory statistics.

use std::io::Read;

use types::Arch;

use crate::payload::MemberKind;
use crate::windows::convert::Context;
use crate::windows::drivers::{MEMBER, Role};
use crate::windows::files;
use crate::windows::firstboot::Phase;
use crate::{Error, ErrorKind, Result};

const WHY: &str = "the guest agent answers the host";
/// Where it is put, below the system's directory.
const DIR: &str = "Drivers/VirtIO";
/// Largest package that is taken; virtio-win's has some 20 MiB.
const PACKAGE_MAX: u64 = 256 << 20;
/// The balloon's service.
const BALLOON: &str = "blnsvr.exe";

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    balloon(context)?;
    if context.guest.has_guest_agent {
        context.recorder.not_needed("it is installed already");
        return Ok(());
    }
    let Some(member) = package(context)? else {
        context
            .recorder
            .not_needed("there is no package of it for this Windows at hand");
        return Ok(());
    };
    if context.programs.is_none() {
        let reason = "there is no first-boot service that could install it";
        context.recorder.skip(reason);
        return Ok(());
    }
    let name = member.rsplit('/').next().unwrap_or(&member).to_lowercase();
    put(context, &member, &name)?;
    context
        .firstboot
        .add(Phase::Agent, "guest-agent", script(&name));
    Ok(())
}

/// The member that suits; an error for one that was asked for and is no MSI.
fn package(context: &Context<'_>) -> Result<Option<String>> {
    if let Some(asked) = &context.options.qemu_ga {
        context.payload.member(asked)?;
        let suits = asked.to_lowercase().ends_with(".msi") && is_plain(asked);
        return match suits {
            true => Ok(Some(asked.clone())),
            false => Err(Error::new(
                ErrorKind::Refused,
                format!("--qemu-ga: expected an .msi for Windows, found {asked}"),
            )),
        };
    }
    // The agent of virtio-win wants Windows 7 or Server 2008 R2 at least.
    if (context.windows.major, context.windows.minor) < (6, 1) {
        return Ok(None);
    }
    let names = match context.guest.arch {
        Arch::X86_64 => ["qemu-ga-x86_64.msi", "qemu-ga-x64.msi"],
        Arch::I686 => ["qemu-ga-i386.msi", "qemu-ga-x86.msi"],
        Arch::Aarch64 => ["qemu-ga-aarch64.msi", "qemu-ga-arm64.msi"],
        _ => return Ok(None),
    };
    let tree: Vec<&str> = context
        .payload
        .tree(MEMBER)
        .filter(|(_, member)| member.kind == MemberKind::File)
        .map(|(path, _)| path)
        .collect();
    let found = names.iter().find_map(|name| {
        let same = |path: &&&str| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.eq_ignore_ascii_case(name)
        };
        tree.iter().find(same)
    });
    Ok(found.map(|path| format!("{MEMBER}/{path}")))
}

/// Nothing in the file's name means anything to cmd.exe.
fn is_plain(member: &str) -> bool {
    let name = member.rsplit('/').next().unwrap_or_default();
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
}

/// Copies a member into the guest.
fn put(context: &mut Context<'_>, member: &str, name: &str) -> Result<()> {
    let len = context.payload.member(member)?.len;
    if len > PACKAGE_MAX {
        let message = format!("expected at most {PACKAGE_MAX} bytes, found {len}");
        return Err(Error::new(ErrorKind::Limit, message).at(member));
    }
    let mut content = Vec::new();
    context
        .payload
        .read(member)?
        .read_to_end(&mut content)
        .map_err(|error| Error::io("reading the payload", error).at(member))?;
    let path = format!("{}/{DIR}/{name}", context.windows.system_root);
    let path = files::place(context.root, &path);
    context.recorder.write(&path, &content, WHY)?;
    Ok(())
}

/// 1618 is another installation that is running (Windows Installer, "Error Codes"): it is waited for. 1641 and 3010 want
/// a reboot that the agent does not need.
fn script(name: &str) -> String {
    let lines = [
        "rem v2v-timeout 1800".to_owned(),
        "set tries=0".to_owned(),
        ":again".to_owned(),
        format!(
            "msiexec.exe /i \"%SystemRoot%\\Drivers\\VirtIO\\{name}\" /qn /norestart /l*v \"%SystemRoot%\\Temp\\v2v-qemu-ga.log\""
        ),
        "set code=%ERRORLEVEL%".to_owned(),
        "if \"%code%\"==\"1641\" exit /b 0".to_owned(),
        "if \"%code%\"==\"3010\" exit /b 0".to_owned(),
        "set /a tries=tries+1".to_owned(),
        "if \"%code%\"==\"1618\" if %tries% lss 20 (ping -n 31 127.0.0.1 >nul & goto again)"
            .to_owned(),
        "exit /b %code%".to_owned(),
    ];
    lines.join("\r\n") + "\r\n"
}

/// The balloon's service, where the driver's directory has it.
fn balloon(context: &mut Context<'_>) -> Result<()> {
    let Some(package) = context.drivers.role(Role::Balloon) else {
        return Ok(());
    };
    let beside = package.members.first().and_then(|inf| inf.rsplit_once('/'));
    let Some((dir, _)) = beside else {
        return Ok(());
    };
    let member = context
        .payload
        .tree(dir)
        .find(|(name, _)| name.eq_ignore_ascii_case(BALLOON))
        .map(|(name, _)| format!("{dir}/{name}"));
    let Some(member) = member.filter(|_| context.programs.is_some()) else {
        return Ok(());
    };
    put(context, &member, BALLOON)?;
    let script =
        format!("\"%SystemRoot%\\Drivers\\VirtIO\\{BALLOON}\" -i\r\nexit /b %ERRORLEVEL%\r\n");
    context
        .firstboot
        .add(Phase::Agent, "balloon-service", script);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::tests::payload;
    use crate::windows::drivers::{Package, Plan};
    use crate::windows::steps::testing::Guest;

    const MSI: &str = "virtio-win/guest-agent/qemu-ga-x86_64.msi";
    const PLACE: &str = "/Windows/Drivers/VirtIO/qemu-ga-x86_64.msi";

    #[test]
    fn the_package_of_the_tree_is_copied_and_installed() {
        let mut guest = Guest::new();
        guest.payload = payload(&[
            (MSI, 0o644, b"msi"),
            ("virtio-win/guest-agent/qemu-ga-i386.msi", 0o644, b"x86"),
        ]);
        let outcome = guest.run(apply);
        assert_eq!(guest.read(PLACE).unwrap(), b"msi");
        let script = outcome.script("guest-agent").unwrap();
        assert!(script.contains("/i \"%SystemRoot%\\Drivers\\VirtIO\\qemu-ga-x86_64.msi\" /qn"));
        assert!(guest.again(&outcome, apply).changes.is_empty());
    }

    #[test]
    fn nothing_is_installed_where_it_is_or_cannot_be() {
        let members: &[(&str, u32, &[u8])] = &[(MSI, 0o644, b"msi")];
        let mut there = Guest::new();
        there.payload = payload(members);
        there.guest.has_guest_agent = true;
        let mut old = Guest::new();
        old.payload = payload(members);
        (old.windows.major, old.windows.minor) = (5, 1);
        let mut other = Guest::new();
        other.payload = payload(members);
        other.guest.arch = Arch::I686;
        let mut alone = Guest::new();
        alone.payload = payload(members);
        alone.programs = false;
        for guest in [there, old, other, alone] {
            let outcome = guest.run(apply);
            assert!(outcome.scripts.is_empty() && outcome.changes.is_empty());
        }
    }

    #[test]
    fn what_was_asked_for_must_be_an_msi() {
        let mut guest = Guest::new();
        guest.payload = payload(&[
            ("0/agent.rpm", 0o644, b"rpm"),
            ("0/Agent-107.MSI", 0o644, b"msi"),
        ]);
        guest.options.qemu_ga = Some("0/agent.rpm".into());
        let error = guest.try_run(apply).unwrap_err();
        assert!(error.contains("expected an .msi"), "{error}");
        guest.options.qemu_ga = Some("0/Agent-107.MSI".into());
        guest.run(apply);
        assert_eq!(
            guest.read("/Windows/Drivers/VirtIO/agent-107.msi").unwrap(),
            b"msi"
        );
    }

    #[test]
    fn the_balloon_s_service_registers_itself() {
        let mut guest = Guest::new();
        guest.payload = payload(&[
            ("virtio-win/Balloon/w10/amd64/balloon.inf", 0o644, b"inf"),
            ("virtio-win/Balloon/w10/amd64/blnsvr.exe", 0o644, b"exe"),
        ]);
        guest.drivers = Plan {
            packages: vec![Package {
                role: Role::Balloon,
                inf_name: "balloon.inf".into(),
                inf: Default::default(),
                inf_sha256: String::new(),
                members: vec!["virtio-win/Balloon/w10/amd64/balloon.inf".into()],
                exact: true,
            }],
            warnings: Vec::new(),
        };
        let outcome = guest.run(apply);
        assert_eq!(
            guest.read("/Windows/Drivers/VirtIO/blnsvr.exe").unwrap(),
            b"exe"
        );
        assert!(
            outcome
                .script("balloon-service")
                .unwrap()
                .contains("blnsvr.exe\" -i")
        );
    }
}
