//! The scripts that remove packages and run uninstallers at the first boot.

use std::fmt::Write as _;

use crate::linux::convert::Context;
use crate::linux::packages::{Package, Packages};
use crate::linux::steps::leftovers::{FAMILIES, services::matches};
use crate::root::{Kind, join, split};
use crate::{Result, Root};

/// Tries what is to be removed at once, then one by one as long as that succeeds for any. A package manager that is
/// busy is tried again for five minutes.
const LOOP: &str = r#"
attempt() {
    tries=0
    while :; do
        said=$(remove "$@" 2>&1)
        status=$?
        echo "$said"
        [ "$status" -eq 0 ] && return 0
        case $said in *' lock'*) ;; *) return "$status" ;; esac
        tries=$((tries + 1))
        [ "$tries" -ge 30 ] && return "$status"
        sleep 10
    done
}
# shellcheck disable=SC2086
attempt $packages && exit 0
again=yes
while [ -n "$again" ]; do
    again=
    rest=
    for package in $packages; do
        if attempt "$package"; then again=yes; else rest="$rest $package"; fi
    done
    packages=$rest
done
[ -z "$packages" ] || echo "left, as other packages need them:$packages"
exit 0
"#;

/// How each package manager removes packages without the network and without taking others along: all of these
/// refuse when something that stays needs what goes.
fn command(format: &str) -> Option<&'static str> {
    Some(match format {
        "dpkg" => "dpkg --purge",
        "rpm" => "rpm -e",
        "apk" => "apk del --no-network",
        "pacman" => "pacman -R --noconfirm",
        "xbps" => "xbps-remove -y",
        // `--unmerge` would not ask who needs it.
        "portage" => "emerge --quiet --ask=n --depclean",
        _ => return None,
    })
}

/// Adds the scripts that this guest needs.
pub(super) fn plan(context: &mut Context<'_>) -> Result<()> {
    for family in FAMILIES {
        let found: Vec<String> = family
            .uninstallers
            .iter()
            .flat_map(|path| find(context.root, path))
            .collect();
        for path in found {
            let body = format!(
                "#!/bin/sh\n# Undoes an installation that came without packages.\n[ -x '{path}' ] || exit 0\n'{path}'\n"
            );
            let name = format!("uninstall-{}", family.name);
            // A vendor's program may not bear to be begun again.
            context.firstboot.add(&name, body);
        }
    }
    let packages = Packages::read(context.root);
    let kept: Vec<&[&str]> = FAMILIES
        .iter()
        .filter(|family| (family.keep)(context))
        .map(|family| family.packages)
        .collect();
    let goes = |name: &str| {
        super::is_tool(name) && !kept.iter().any(|list| matches(list, name)) && is_safe(name)
    };
    let removed: Vec<&Package> = packages
        .installed
        .iter()
        .filter(|package| goes(&package.name))
        .collect();
    let mut names: Vec<&str> = removed
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    // One package of two architectures is removed by one name.
    names.dedup();
    if names.is_empty() {
        return advise(context);
    }
    let Some(command) = command(packages.format) else {
        return advise(context);
    };
    let mut body = String::from(
        "#!/bin/sh\n# Removes the guest tools of other hypervisors and clouds, and nothing with them.\n\
         LC_ALL=C DEBIAN_FRONTEND=noninteractive\nexport LC_ALL DEBIAN_FRONTEND\n",
    );
    // Writing to a String cannot fail.
    for package in &removed {
        if is_safe(&package.version) {
            let _ = writeln!(body, "# {} {}", package.name, package.version);
        }
    }
    let _ = write!(
        body,
        "packages='{}'\nremove() {{\n    {command} \"$@\" </dev/null\n}}\n{LOOP}",
        names.join(" ")
    );
    context.firstboot.add_repeatable("remove-tools", body);
    Ok(())
}

/// Where the packages' names are not known, they are not removed.
fn advise(context: &mut Context<'_>) -> Result<()> {
    let unread = &context.guest.hypervisor_tools;
    if !unread.is_empty() && unread == &super::by_files(context.root) {
        context.recorder.warn(format!(
            "guest tools of another hypervisor are disabled, not removed, as the package database could not be read: {}",
            unread.join(" ")
        ));
    }
    Ok(())
}

/// No word to the shell or option to the package manager: the database is the guest's.
fn is_safe(name: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '_' | '-' | '/' | ':' | '~');
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(['-', '/', '.'])
}

/// Regular files that a path with a `*` in its last directory leads to.
pub(super) fn find(root: &Root, path: &str) -> Vec<String> {
    let Ok((dir, file)) = split(path) else {
        return Vec::new();
    };
    let candidates = match split(dir) {
        Ok((above, last)) if last.ends_with('*') => {
            let entries = root.list(above).unwrap_or_default();
            let dirs = entries.iter().filter(|entry| {
                entry.kind == Kind::Dir && matches(&[last], &entry.name) && is_safe(&entry.name)
            });
            dirs.map(|entry| join(&join(above, &entry.name), file))
                .collect()
        }
        _ => vec![path.to_owned()],
    };
    candidates
        .into_iter()
        .filter(|path| root.is_file(path))
        .collect()
}
