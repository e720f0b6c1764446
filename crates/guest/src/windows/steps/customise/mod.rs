//! virt-customize's options on a Windows guest.
//!
//! Files, directories, the computer's name, the time zone and scripts for the first boot are the same as on Linux;
//! accounts, permissions, links and programs run in the appliance are not, and are refused before anything is changed.

mod delete;
mod files;
mod paths;
mod system;
#[cfg(test)]
mod tests;
mod text;
mod zones;

use types::Customise;

use crate::linux::customise::substitution;
use crate::payload::MemberKind;
use crate::windows::convert::Context;
use crate::windows::firstboot::Phase;
use crate::{Error, ErrorKind, Result};

/// What the conversion itself needs on the guest's volume: hives, drivers, programs.
const RESERVE: u64 = 256 << 20;

/// Refuses what cannot be done, before anything is changed.
pub(crate) fn plan(context: &Context<'_>) -> Result<()> {
    let mut unknown = false;
    let mut bytes = 0u64;
    for change in &context.options.customise {
        check_words(context, change)?;
        if !unknown {
            check_guest(context, change)?;
        }
        bytes = bytes.saturating_add(size(context, change));
        // Later ones may rely on what these make.
        unknown |= matches!(
            change,
            Customise::Upload { .. }
                | Customise::CopyIn { .. }
                | Customise::Write { .. }
                | Customise::AppendLine { .. }
                | Customise::Mkdir { .. }
                | Customise::Touch { .. }
                | Customise::Delete { .. }
        );
    }
    let free = context.root.free_bytes("/")?;
    if bytes > 0 && bytes.saturating_add(RESERVE) > free {
        let message = format!(
            "expected {} MiB free on the guest's volume for what is to be copied in, found {}",
            bytes.saturating_add(RESERVE).div_ceil(1 << 20),
            free >> 20
        );
        return Err(Error::new(ErrorKind::NoSpace, message));
    }
    Ok(())
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Refused, message)
}

/// What does not depend on the guest's files.
fn check_words(context: &Context<'_>, change: &Customise) -> Result<()> {
    let instead = |option: &str, instead: &str| {
        Err(refused(format!(
            "{option} is not possible for Windows: {instead}"
        )))
    };
    match change {
        Customise::Password { user, .. } => instead(
            "setting a password",
            &format!("use --firstboot-command 'net user {user} PASSWORD'"),
        ),
        Customise::SshInject { .. } => instead(
            "--ssh-inject",
            "use --mkdir and --upload for C:\\ProgramData\\ssh\\administrators_authorized_keys",
        ),
        Customise::Chmod { .. } => instead("--chmod", "use --firstboot-command 'icacls …'"),
        Customise::Link { .. } => instead("--link", "use --firstboot-command 'mklink …'"),
        Customise::Run { name, .. } => instead(
            &format!("running {name}"),
            "use --firstboot, which runs it in the guest",
        ),
        Customise::Edit { path, expression } => {
            paths::place(context, path)?;
            substitution::Program::parse(expression)
                .map(drop)
                .map_err(|error| error.at(path))
        }
        Customise::Upload { payload, to } => {
            context.payload.member(payload)?;
            paths::place(context, to).map(drop)
        }
        Customise::CopyIn { payload, to } => {
            context.payload.member(payload)?;
            let link = |kind: &MemberKind| matches!(kind, MemberKind::Symlink(_));
            let mut tree = context.payload.tree(payload);
            if let Some((path, _)) = tree.find(|(_, member)| link(&member.kind)) {
                let message = "a symbolic link cannot be copied into Windows";
                return Err(refused(message).at(format!("{payload}/{path}")));
            }
            paths::place(context, to).map(drop)
        }
        Customise::Delete { path } => paths::pattern(context, path).map(drop),
        Customise::Write { path, .. }
        | Customise::AppendLine { path, .. }
        | Customise::Mkdir { path }
        | Customise::Touch { path } => paths::place(context, path).map(drop),
        Customise::Firstboot { name, script } => check_script(context, name, script),
        Customise::Hostname { name } => system::check_name(context, name),
        Customise::Timezone { zone } => system::find_zone(context, zone).map(drop),
    }
}

fn check_script(context: &Context<'_>, name: &str, script: &str) -> Result<()> {
    if context.programs.is_none() {
        return Err(refused(format!(
            "there is no first-boot service that could run {name}"
        )));
    }
    if script.starts_with("#!") {
        return Err(refused(format!(
            "{name} begins with #!: expected a batch file for cmd.exe, or PowerShell in a file called .ps1"
        )));
    }
    Ok(())
}

/// What does.
fn check_guest(context: &Context<'_>, change: &Customise) -> Result<()> {
    let root = context.root;
    match change {
        Customise::Upload { payload, to } => files::upload_path(context, payload, to).map(drop),
        Customise::CopyIn { to, .. } => files::need_dir(root, &paths::place(context, to)?),
        Customise::Write { path, .. }
        | Customise::AppendLine { path, .. }
        | Customise::Touch { path } => files::need_parent(root, &paths::place(context, path)?),
        Customise::Edit { path, .. } => files::need(root, &paths::place(context, path)?),
        _ => Ok(()),
    }
}

/// Room that a change takes.
fn size(context: &Context<'_>, change: &Customise) -> u64 {
    match change {
        Customise::Upload { payload, .. } | Customise::CopyIn { payload, .. } => context
            .payload
            .tree(payload)
            .fold(0, |sum: u64, (_, member)| {
                sum.saturating_add(member.len).saturating_add(8 << 10)
            }),
        Customise::Write { content, .. } => content.len() as u64,
        _ => 0,
    }
}

/// See the module.
pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let options = context.options;
    if options.customise.is_empty() {
        context.recorder.not_needed("nothing was asked for");
        return Ok(());
    }
    for (index, change) in options.customise.iter().enumerate() {
        apply_one(context, index, change)?;
    }
    context
        .recorder
        .not_needed("all of it was so already, or is done at the first boot");
    Ok(())
}

fn apply_one(context: &mut Context<'_>, index: usize, change: &Customise) -> Result<()> {
    match change {
        Customise::Upload { payload, to } => files::upload(context, payload, to),
        Customise::CopyIn { payload, to } => files::copy_in(context, payload, to),
        Customise::Write { path, content } => files::write(context, path, content),
        Customise::AppendLine { path, line } => files::append_line(context, path, line),
        Customise::Edit { path, expression } => files::edit(context, path, expression),
        Customise::Delete { path } => delete::apply(context, path),
        Customise::Mkdir { path } => files::mkdir(context, path),
        Customise::Touch { path } => files::touch(context, path),
        Customise::Hostname { name } => system::hostname(context, name),
        Customise::Timezone { zone } => system::timezone(context, zone),
        Customise::Firstboot { name, script } => {
            firstboot(context, index, name, script);
            Ok(())
        }
        Customise::Password { .. }
        | Customise::SshInject { .. }
        | Customise::Chmod { .. }
        | Customise::Link { .. }
        | Customise::Run { .. } => check_words(context, change),
    }
}

/// A batch file as it is; PowerShell as a file beside it, whatever the policy of execution says.
fn firstboot(context: &mut Context<'_>, index: usize, name: &str, script: &str) {
    let words = script_name(index, name);
    let body = if name.to_lowercase().ends_with(".ps1") {
        let file = format!("{words}.ps1");
        // Windows PowerShell takes a file without a byte order mark for the system's code page.
        let content = format!("\u{feff}{}", script.trim_start_matches('\u{feff}'));
        context.firstboot.file(&file, content);
        format!(
            "powershell.exe -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -File \"%V2V_DIR%\\{file}\"\r\nexit /b %ERRORLEVEL%\r\n"
        )
    } else {
        script.to_owned()
    };
    context.firstboot.add(Phase::Customer, &words, body);
}

/// Lower-case words with dashes; the index keeps two scripts of one name apart.
fn script_name(index: usize, name: &str) -> String {
    let word = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
        _ => '-',
    };
    let words: String = name.chars().take(40).map(word).collect();
    format!("custom-{index}-{}", words.trim_matches('-'))
}
