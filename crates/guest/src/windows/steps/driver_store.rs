//! The chosen drivers, staged in the guest: %SystemRoot%\Drivers\VirtIO has their files, DevicePath names it so that
//! plug and play looks there, and pnputil installs them at the first boot.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use registry::{Kind, Value};

use crate::recorder::sha256;
use crate::windows::convert::Context;
use crate::windows::drivers::{Package, tree};
use crate::windows::files;
use crate::windows::firstboot::Phase;
use crate::windows::hives::Which;
use crate::{Payload, Result};

/// Below the system root, where virt-v2v puts them too.
const DIR: &str = "Drivers\\VirtIO";
/// Largest file of a package.
const FILE_MAX: u64 = 32 << 20;
/// All files together.
const TOTAL_MAX: u64 = 256 << 20;
/// Left free besides, in bytes: pnputil copies each package into the driver store, and the hives are written anew.
const SLACK: u64 = 64 << 20;

const CURRENT_VERSION: &str = "Microsoft\\Windows\\CurrentVersion";
/// Its value in a fresh system.
const INF_DIR: &str = "%SystemRoot%\\inf";
const DEVICE_INSTALL: &str = "Policies\\Microsoft\\Windows\\DeviceInstall\\Settings";

/// Program that comes with the balloon's driver and installs itself as a service.
const BALLOON_SERVICE: &str = "blnsvr.exe";

/// A file to be staged.
struct Staged {
    /// Below [`DIR`], with backslashes.
    path: String,
    content: Vec<u8>,
}

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    if context.drivers.packages.is_empty() {
        context
            .recorder
            .skip("no driver of virtio-win suits this Windows");
        return Ok(());
    }
    let (staged, infs) = stage(context.payload, &context.drivers.packages)?;
    if !has_room(context, &staged)? {
        return Ok(());
    }
    for file in &staged {
        let path = guest_path(context, &file.path);
        let why = "a driver to be installed at the first boot";
        context.recorder.write(&path, &file.content, why)?;
    }
    device_path(context, &infs)?;
    let old = context.windows.major < 6;
    if old {
        no_hardware_wizard(context)?;
    }
    let balloon = staged.iter().any(|file| file.path == BALLOON_SERVICE);
    let script = if old {
        script_of_5()
    } else {
        script(context.windows.build, &infs, balloon)
    };
    context
        .firstboot
        .add(Phase::Drivers, "install-drivers", script);
    Ok(())
}

/// Files with their places, and the .inf files among them. Packages lie flat; one with a file that another has under
/// the same name and with other content gets a directory of its own.
fn stage(payload: &Payload, packages: &[Package]) -> Result<(Vec<Staged>, Vec<String>)> {
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    let (mut staged, mut infs) = (Vec::new(), Vec::new());
    let mut total = 0_u64;
    for package in packages {
        let mut files = Vec::new();
        for member in &package.members {
            let content = tree::read(payload, member, FILE_MAX)?;
            total = total.saturating_add(content.len() as u64);
            if total > TOTAL_MAX {
                let message = format!("the drivers have more than {TOTAL_MAX} bytes");
                return Err(crate::Error::new(crate::ErrorKind::Limit, message));
            }
            let name = member.rsplit('/').next().unwrap_or_default();
            files.push((name.to_lowercase(), sha256(&content), content));
        }
        let taken = files.iter().any(|(name, hash, _)| {
            let known = places.get(name);
            known.is_some_and(|known| known != hash)
        });
        let dir = match package.inf_name.strip_suffix(".inf") {
            Some(stem) if taken => format!("{stem}\\"),
            _ => String::new(),
        };
        infs.push(format!("{dir}{}", package.inf_name));
        for (name, hash, content) in files {
            let path = format!("{dir}{name}");
            if places.insert(path.clone(), hash).is_none() {
                staged.push(Staged { path, content });
            }
        }
    }
    Ok((staged, infs))
}

/// Where a file goes in the guest.
fn guest_path(context: &Context<'_>, path: &str) -> String {
    let path = format!("{}\\{DIR}\\{path}", context.windows.system_root);
    files::place(context.root, &path)
}

fn has_room(context: &mut Context<'_>, staged: &[Staged]) -> Result<bool> {
    let missing = staged.iter().filter(|file| {
        let meta = context.root.meta(&guest_path(context, &file.path));
        !meta.is_ok_and(|meta| meta.len == file.content.len() as u64)
    });
    let needed: u64 = missing.map(|file| file.content.len() as u64).sum();
    if needed == 0 {
        return Ok(true);
    }
    let needed = needed.saturating_mul(2).saturating_add(SLACK);
    let free = context.root.free_bytes(&context.windows.system_root)?;
    if free >= needed {
        return Ok(true);
    }
    let (needed, free) = (needed >> 20, free >> 20);
    let message =
        format!("drivers need {needed} MiB on the volume of Windows, {free} MiB are free");
    context.recorder.warn(format!(
        "{message}: only the disk driver is installed, give the others to Windows by hand after the first boot"
    ));
    context.recorder.skip(message);
    Ok(false)
}

/// Adds our directories to DevicePath, each once; the others stay.
fn device_path(context: &mut Context<'_>, infs: &[String]) -> Result<()> {
    let old = context
        .registry
        .software()
        .value(CURRENT_VERSION, "DevicePath")
        .map_err(crate::windows::hives::failed("SOFTWARE"))?;
    let is_text = |value: &Value| matches!(value.kind, Kind::SZ | Kind::EXPAND_SZ);
    let old = old.filter(is_text).and_then(|value| value.as_text());
    let mut dirs: Vec<String> = old
        .unwrap_or_default()
        .split(';')
        .filter(|dir| !dir.trim().is_empty())
        .map(str::to_owned)
        .collect();
    if dirs.is_empty() {
        dirs.push(INF_DIR.to_owned());
    }
    for inf in infs {
        let dir = match inf.rsplit_once('\\') {
            Some((dir, _)) => format!("%SystemRoot%\\{DIR}\\{dir}"),
            None => format!("%SystemRoot%\\{DIR}"),
        };
        let known = |known: &String| {
            known
                .trim()
                .trim_end_matches('\\')
                .eq_ignore_ascii_case(&dir)
        };
        if !dirs.iter().any(known) {
            dirs.push(dir);
        }
    }
    context.registry.set(
        &mut context.recorder,
        Which::Software,
        CURRENT_VERSION,
        "DevicePath",
        &Value::expand(&dirs.join(";")),
        "plug and play looks for drivers there",
    )?;
    Ok(())
}

/// Before Vista the wizard for new hardware would stand on the screen and wait: "SuppressUI" for XP, the policy for
/// Server 2003. The script takes both back.
fn no_hardware_wizard(context: &mut Context<'_>) -> Result<()> {
    let why = "no wizard waits for somebody at the first boot";
    if let Some(set) = context.windows.control_sets.first() {
        context.registry.set(
            &mut context.recorder,
            Which::System,
            &format!("{set}\\Services\\PlugPlay\\Parameters"),
            "SuppressUI",
            &Value::dword(1),
            why,
        )?;
    }
    context.registry.set(
        &mut context.recorder,
        Which::Software,
        DEVICE_INSTALL,
        "SuppressNewHWUI",
        &Value::dword(1),
        why,
    )?;
    Ok(())
}

/// First build whose pnputil knows `/add-driver` (Windows 10 1607).
const ADD_DRIVER: u32 = 14393;

/// Installs each .inf, waits until plug and play is done, and ends with 3010 where one of them wants a reboot.
fn script(build: u32, infs: &[String], balloon: bool) -> String {
    let install = if build >= ADD_DRIVER {
        "/add-driver \"%DRIVERS%\\%~1\" /install"
    } else {
        "-i -a \"%DRIVERS%\\%~1\""
    };
    let mut calls: String = infs
        .iter()
        .map(|inf| format!("call :install \"{inf}\"\n"))
        .collect();
    if balloon {
        calls.push_str("call :settle\n");
        calls.push_str("\"%SYS%\\sc.exe\" query BalloonService >nul 2>&1\n");
        calls.push_str(&format!(
            "if errorlevel 1 \"%DRIVERS%\\{BALLOON_SERVICE}\" -i\n"
        ));
    }
    // 259: added, and no device wants it now; 1641 and 3010: a reboot is wanted.
    format!(
        "rem v2v-timeout 1800\n\
         set \"DRIVERS=%SystemRoot%\\{DIR}\"\n\
         {SYS}\
         set REBOOT=0\n\
         set FAILED=0\n\
         {calls}\
         call :settle\n\
         if %REBOOT%==1 exit /b 3010\n\
         exit /b %FAILED%\n\
         \n\
         :install\n\
         echo %~1\n\
         \"%SYS%\\pnputil.exe\" {install}\n\
         set CODE=%ERRORLEVEL%\n\
         echo %~1: pnputil ended with %CODE%\n\
         if %CODE%==0 goto :eof\n\
         if %CODE%==259 goto :eof\n\
         if %CODE%==1641 goto :reboot\n\
         if %CODE%==3010 goto :reboot\n\
         set FAILED=1\n\
         goto :eof\n\
         :reboot\n\
         set REBOOT=1\n\
         goto :eof\n\
         \n\
         rem drvinst.exe runs while plug and play installs; at most five minutes.\n\
         :settle\n\
         set ROUND=0\n\
         :again\n\
         set /a ROUND+=1 >nul\n\
         \"%SYS%\\ping.exe\" -n 6 127.0.0.1 >nul\n\
         \"%SYS%\\tasklist.exe\" /fi \"imagename eq drvinst.exe\" 2>nul | \"%SYS%\\find.exe\" /i \"drvinst.exe\" >nul\n\
         if errorlevel 1 goto :eof\n\
         if %ROUND% lss 60 goto again\n\
         goto :eof\n"
    )
}

/// The directory of the system's own programs, from a 32-bit program too.
const SYS: &str = "set \"SYS=%SystemRoot%\\System32\"\n\
                   if exist \"%SystemRoot%\\Sysnative\\cmd.exe\" set \"SYS=%SystemRoot%\\Sysnative\"\n";

/// XP and 2003 have no pnputil: plug and play finds the drivers by DevicePath. It gets time, then its wizard is back.
fn script_of_5() -> String {
    format!(
        "rem v2v-timeout 600\n\
         {SYS}\
         \"%SYS%\\ping.exe\" -n 91 127.0.0.1 >nul\n\
         \"%SYS%\\reg.exe\" delete \"HKLM\\SYSTEM\\CurrentControlSet\\Services\\PlugPlay\\Parameters\" /v SuppressUI /f\n\
         \"%SYS%\\reg.exe\" delete \"HKLM\\SOFTWARE\\{DEVICE_INSTALL}\" /v SuppressNewHWUI /f\n\
         exit /b 0\n"
    )
}
