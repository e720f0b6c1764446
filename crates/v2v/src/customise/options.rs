//! Each option's value, understood and checked as far as this host can.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use convert::PayloadFile;
use types::Customise;

use super::{Customisation, Given, secrets};

/// Largest script.
const SCRIPT_MAX: u64 = 4 << 20;
/// sethostname(2) takes no more.
const HOSTNAME_MAX: usize = 64;

/// Adds what one option asks for.
pub(super) fn read(given: &Given, read: &mut Customisation) -> Result<()> {
    let value = given.value.as_str();
    let change = match given.option {
        "root-password" | "password" => {
            let (user, passwords) = secrets::passwords(given)?;
            read.changes.extend(passwords.into_iter().map(|password| {
                let user = user.clone();
                Customise::Password { user, password }
            }));
            return Ok(());
        }
        "ssh-inject" => {
            let (user, keys) = secrets::ssh_keys(value)?;
            read.changes.extend(keys.into_iter().map(|key| {
                let user = user.clone();
                Customise::SshInject { user, key }
            }));
            return Ok(());
        }
        "link" => return links(value, read),
        "upload" | "copy-in" => from_host(given, read)?,
        "hostname" => hostname(value)?,
        "timezone" => timezone(value)?,
        "write" => {
            let (path, content) = file_and(given, "CONTENT")?;
            let content = content.to_owned();
            Customise::Write { path, content }
        }
        "append-line" => {
            let (path, line) = file_and(given, "LINE")?;
            if line.contains('\n') {
                bail!("--append-line {path}: expected one line");
            }
            let line = line.to_owned();
            Customise::AppendLine { path, line }
        }
        "edit" => {
            let (path, expression) = file_and(given, "EXPR")?;
            guest::check_edit(expression)
                .map_err(|error| anyhow::anyhow!("--edit {path}: {error}"))?;
            let expression = expression.to_owned();
            Customise::Edit { path, expression }
        }
        "chmod" => chmod(value)?,
        "delete" => delete(value)?,
        "mkdir" => Customise::Mkdir {
            path: guest_path("mkdir", value)?,
        },
        "touch" => Customise::Touch {
            path: guest_path("touch", value)?,
        },
        "firstboot" | "run" => script(given.option, value)?,
        "firstboot-command" | "run-command" => command(given.option, value)?,
        option => bail!("--{option} does not go here"),
    };
    read.changes.push(change);
    Ok(())
}

/// A path in the guest: absolute, without `..`.
fn guest_path(option: &str, path: &str) -> Result<String> {
    if !path.starts_with('/') {
        bail!("--{option} {path}: expected a path of the guest that begins with /");
    }
    if path.contains('\0') || path.split('/').any(|name| name == "..") {
        bail!("--{option} {path}: expected a path without `..`");
    }
    if path.len() > 4095 {
        bail!("--{option}: expected a path of at most 4095 bytes");
    }
    Ok(path.to_owned())
}

/// A path that names more than the guest's root.
fn below_root(option: &str, path: &str) -> Result<String> {
    let path = guest_path(option, path)?;
    if path.split('/').all(|name| matches!(name, "" | ".")) {
        bail!("--{option} {path}: expected a path below /");
    }
    Ok(path)
}

/// `FILE:REST`; what the rest is may be secret and is not repeated.
fn file_and<'a>(given: &'a Given, rest: &str) -> Result<(String, &'a str)> {
    let option = given.option;
    match given.value.split_once(':') {
        Some((file, value)) => Ok((below_root(option, file)?, value)),
        None => bail!("--{option}: expected FILE:{rest}"),
    }
}

/// `FILE:DEST`, cut where a path of the guest begins: a file of the host may have a colon in its name.
fn from_host(given: &Given, read: &mut Customisation) -> Result<Customise> {
    let (option, value) = (given.option, given.value.as_str());
    let Some((file, to)) = value
        .rfind(":/")
        .and_then(|at| Some((value.get(..at)?, value.get(at + 1..)?)))
        .filter(|(file, _)| !file.is_empty())
    else {
        bail!("--{option} {value}: expected FILE:DEST with a DEST that begins with /");
    };
    let to = guest_path(option, to)?;
    let path = std::fs::canonicalize(file).with_context(|| format!("--{option} {file}"))?;
    // The name as it was given, not what a link leads to.
    let name = Path::new(file).file_name().or(path.file_name());
    let name = name.and_then(|name| name.to_str());
    let name = name.with_context(|| format!("--{option} {file}: expected a name in UTF-8"))?;
    let meta = std::fs::metadata(&path).with_context(|| format!("--{option} {file}"))?;
    let folder = option == "copy-in" && meta.is_dir();
    if !folder && !meta.is_file() {
        let wanted = if option == "upload" {
            "a regular file"
        } else {
            "a file or folder"
        };
        bail!("--{option} {file}: expected {wanted}");
    }
    if !folder {
        File::open(&path).with_context(|| format!("--{option} {file}"))?;
    }
    let payload = format!("{}/{name}", read.payload.len());
    read.payload.push(PayloadFile {
        name: payload.clone(),
        path,
    });
    Ok(match option {
        "upload" => Customise::Upload { payload, to },
        _ => Customise::CopyIn { payload, to },
    })
}

/// Names as hostname(7) has them.
fn hostname(name: &str) -> Result<Customise> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if name.len() > HOSTNAME_MAX || !name.split('.').all(label) {
        bail!(
            "--hostname {name}: expected letters, digits and dashes, at most {HOSTNAME_MAX}, perhaps with dots between"
        );
    }
    let name = name.to_owned();
    Ok(Customise::Hostname { name })
}

/// Names as the tz database has them.
fn timezone(zone: &str) -> Result<Customise> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_+.".contains(c))
    };
    if !zone.split('/').all(part) {
        bail!("--timezone {zone}: expected a name such as Europe/Berlin");
    }
    let zone = zone.to_owned();
    Ok(Customise::Timezone { zone })
}

/// `MODE:FILE`, octal with or without a leading 0.
fn chmod(value: &str) -> Result<Customise> {
    let Some((mode, path)) = value.split_once(':') else {
        bail!("--chmod {value}: expected MODE:FILE");
    };
    let digits = mode.strip_prefix("0o").unwrap_or(mode);
    let mode = u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777 && !digits.starts_with('+'))
        .with_context(|| format!("--chmod {value}: expected an octal mode such as 0755"))?;
    let path = guest_path("chmod", path)?;
    Ok(Customise::Chmod { mode, path })
}

fn delete(path: &str) -> Result<Customise> {
    Ok(Customise::Delete {
        path: below_root("delete", path)?,
    })
}

/// `TARGET:LINK[:LINK...]`.
fn links(value: &str, read: &mut Customisation) -> Result<()> {
    let mut parts = value.split(':');
    let target = parts.next().unwrap_or_default();
    let links: Vec<&str> = parts.collect();
    if target.is_empty() || links.is_empty() {
        bail!("--link {value}: expected TARGET:LINK[:LINK...]");
    }
    for link in links {
        read.changes.push(Customise::Link {
            target: target.to_owned(),
            link: below_root("link", link)?,
        });
    }
    Ok(())
}

/// A script of this host.
fn script(option: &str, file: &str) -> Result<Customise> {
    let path = PathBuf::from(file);
    let script = text_file(&path, SCRIPT_MAX).with_context(|| format!("--{option}"))?;
    if script.trim().is_empty() {
        bail!("--{option} {file}: the script is empty");
    }
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(match option {
        "run" => Customise::Run {
            name: format!("--run {name}"),
            script,
        },
        _ => Customise::Firstboot { name, script },
    })
}

fn command(option: &str, command: &str) -> Result<Customise> {
    if command.trim().is_empty() {
        bail!("--{option}: the command is empty");
    }
    let script = format!("{command}\n");
    Ok(match option {
        "run-command" => Customise::Run {
            name: "--run-command".to_owned(),
            script,
        },
        _ => Customise::Firstboot {
            name: "command".to_owned(),
            script,
        },
    })
}

/// A small file of this host as text.
pub(super) fn text_file(path: &Path, max: u64) -> Result<String> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("opening {name}"))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        bail!("{name}: expected a file");
    }
    let mut bytes = Vec::new();
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {name}"))?;
    if bytes.len() as u64 > max {
        bail!("{name}: expected at most {} KiB", max >> 10);
    }
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{name}: expected text in UTF-8"))
}
