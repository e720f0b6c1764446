//! The step `customise`: what the administrator wants changed besides, in virt-customize's words (virt-customize(1)).
//!
//! All of it is looked at before the first change of the conversion ([`plan`]): accounts, directories, zones,
//! expressions, free space. What an earlier change of the list may bring about is left to the step itself.

mod accounts;
mod crypt;
mod delete;
mod files;
mod password;
mod run;
mod space;
mod ssh;
pub(crate) mod substitution;
mod system;
#[cfg(test)]
mod tests;

use types::{Customise, Password};

use crate::linux::convert::Context;
use crate::recorder::Recorder;
use crate::{Error, ErrorKind, Result};

pub use run::GuestCode;

/// Refuses what cannot be done, before anything is changed.
pub(crate) fn plan(context: &Context<'_>) -> Result<()> {
    let mut unknown = false;
    for change in &context.options.customise {
        check_words(context, change)?;
        if !unknown {
            check_guest(context, change)?;
        }
        // Later ones may rely on what these make.
        unknown |= matches!(
            change,
            Customise::Run { .. }
                | Customise::Upload { .. }
                | Customise::CopyIn { .. }
                | Customise::Write { .. }
                | Customise::AppendLine { .. }
                | Customise::Edit { .. }
                | Customise::Mkdir { .. }
                | Customise::Touch { .. }
                | Customise::Link { .. }
                | Customise::Delete { .. }
        );
    }
    space::check(context)
}

/// What does not depend on the guest's files.
fn check_words(context: &Context<'_>, change: &Customise) -> Result<()> {
    let refused = |message: &str| Error::new(ErrorKind::Refused, message);
    match change {
        Customise::Edit { path, expression } => substitution::Program::parse(expression)
            .map(drop)
            .map_err(|error| error.at(path)),
        Customise::Upload { payload, .. } | Customise::CopyIn { payload, .. } => {
            context.payload.member(payload).map(drop)
        }
        Customise::Delete { path } if delete::is_root(path) => {
            Err(refused("this is the whole guest, it is not deleted").at(path))
        }
        Customise::Password {
            password: Password::Hashed(hash),
            ..
        } if hash.contains([':', '\n']) => {
            Err(refused("a password's hash has no colon and no line end"))
        }
        Customise::Run { name, .. } => run::check(context, name),
        _ => Ok(()),
    }
}

/// What does.
fn check_guest(context: &Context<'_>, change: &Customise) -> Result<()> {
    let root = context.root;
    match change {
        Customise::Password { user, .. } => password::place(root, user).map(drop),
        Customise::SshInject { user, .. } => accounts::find(root, user).map(drop),
        Customise::Timezone { zone } => system::zone_file(root, zone).map(drop),
        Customise::Upload { payload, to } => files::upload_path(root, payload, to).map(drop),
        Customise::CopyIn { to, .. } => files::need_dir(root, to),
        Customise::Write { path, .. } | Customise::AppendLine { path, .. } => {
            files::need_parent(root, path)
        }
        Customise::Edit { path, .. } | Customise::Chmod { path, .. } => files::need(root, path),
        Customise::Link { link, .. } => files::need_parent(root, link),
        _ => Ok(()),
    }
}

pub(crate) fn applies(context: &Context<'_>) -> bool {
    !context.options.customise.is_empty()
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    let options = context.options;
    for (index, change) in options.customise.iter().enumerate() {
        apply_one(context, index, change)?;
    }
    context
        .recorder
        .not_needed("all of it was so already, or is done at the first boot");
    Ok(())
}

fn apply_one(context: &mut Context<'_>, index: usize, change: &Customise) -> Result<()> {
    let payload = context.payload;
    let recorder: &mut Recorder<'_> = &mut context.recorder;
    match change {
        Customise::Password { user, password } => password::apply(recorder, user, password),
        Customise::SshInject { user, key } => ssh::apply(recorder, user, key),
        Customise::Hostname { name } => system::hostname(context, name),
        Customise::Timezone { zone } => system::timezone(context, zone),
        Customise::Upload { payload: name, to } => files::upload(recorder, payload, name, to),
        Customise::CopyIn { payload: name, to } => files::copy_in(recorder, payload, name, to),
        Customise::Write { path, content } => files::write(recorder, path, content),
        Customise::AppendLine { path, line } => files::append_line(recorder, path, line),
        Customise::Edit { path, expression } => files::edit(recorder, path, expression),
        Customise::Delete { path } => delete::apply(recorder, path),
        Customise::Mkdir { path } => files::mkdir(recorder, path),
        Customise::Chmod { mode, path } => files::chmod(recorder, path, *mode),
        Customise::Touch { path } => files::touch(recorder, path),
        Customise::Link { target, link } => files::link(recorder, target, link),
        Customise::Firstboot { name, script } => {
            context.firstboot.add(&script_name(index, name), script);
            Ok(())
        }
        Customise::Run { name, script } => run::apply(context, name, script),
    }
}

/// Lower-case words with dashes; the index keeps two scripts of one name apart.
fn script_name(index: usize, name: &str) -> String {
    let words: String = name
        .chars()
        .take(40)
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    format!("custom-{index}-{}", words.trim_matches('-'))
}
