//! qemu-guest-agent: started at boot when it is installed, else installed at the first boot, from the package that
//! `--qemu-ga` brought or from the guest's own package sources.

use crate::Result;
use crate::linux::convert::Context;
use crate::linux::steps::leftovers::services::{rc_dirs, start_link};
use crate::root::{join, split};

const UNIT: &str = "qemu-guest-agent.service";
const UNIT_DIRS: [&str; 2] = ["/lib/systemd/system", "/usr/lib/systemd/system"];
/// Names of the init script: Debian, SUSE and OpenRC; RHEL 6.
const SCRIPTS: [&str; 2] = ["qemu-guest-agent", "qemu-ga"];
const WHY: &str = "the guest agent answers the host";
/// Where `--qemu-ga` puts the package, with its suffix.
pub(crate) const PACKAGE: &str = "/var/lib/v2v/qemu-guest-agent";

/// Starts whichever service the package has brought, now and at every boot, as far as the package has not.
const START: &str = r#"
if command -v systemctl >/dev/null 2>&1; then
    systemctl daemon-reload
    systemctl enable qemu-guest-agent.service
    systemctl --no-block start qemu-guest-agent.service
elif command -v rc-update >/dev/null 2>&1; then
    rc-update add qemu-guest-agent default
    rc-service qemu-guest-agent start
elif [ -d /etc/sv/qemu-ga ] && [ -d /etc/runit/runsvdir/default ]; then
    ln -sf /etc/sv/qemu-ga /etc/runit/runsvdir/default/qemu-ga
else
    for service in qemu-guest-agent qemu-ga; do
        [ -x "/etc/init.d/$service" ] || continue
        command -v chkconfig >/dev/null 2>&1 && chkconfig "$service" on
        "/etc/init.d/$service" start
    done
fi
exit 0
"#;

/// Gives up quietly when there is no way out within two minutes. /proc/net/route has the default route as eight zeros.
const FROM_SOURCES: &str = r#"#!/bin/sh
# Installs qemu-guest-agent from the guest's own package sources.
LC_ALL=C DEBIAN_FRONTEND=noninteractive
export LC_ALL DEBIAN_FRONTEND
command -v qemu-ga >/dev/null 2>&1 && exit 0
waited=0
until grep -q '[[:space:]]00000000[[:space:]]' /proc/net/route 2>/dev/null ||
    grep -q '^0\{32\} 00 .* 0\{31\}[1-9a-f] \|^0\{32\} 00 0\{32\} 00 [1-9a-f]' /proc/net/ipv6_route 2>/dev/null; do
    if [ "$waited" -ge 120 ]; then
        echo "no default route after $waited seconds; qemu-guest-agent is not installed"
        exit 0
    fi
    sleep 5
    waited=$((waited + 5))
done
has() {
    command -v "$1" >/dev/null 2>&1
}
if has apt-get; then
    get='apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::http::Timeout=20 --no-install-recommends'
    $get install qemu-guest-agent || { $get update && $get install qemu-guest-agent; }
elif has zypper; then
    zypper --non-interactive install --no-recommends qemu-guest-agent
elif has dnf; then
    dnf -y install qemu-guest-agent
elif has yum; then
    yum -y install qemu-guest-agent
elif has tdnf; then
    tdnf -y install qemu-guest-agent
elif has apk; then
    apk add qemu-guest-agent
elif has pacman; then
    pacman -S --noconfirm qemu-guest-agent
elif has xbps-install; then
    xbps-install -y qemu-ga
else
    echo "no package manager that is known"
fi
command -v qemu-ga >/dev/null 2>&1 || { echo "qemu-guest-agent could not be installed"; exit 0; }
"#;

pub(crate) fn applies(_: &Context<'_>) -> bool {
    true
}

pub(crate) fn apply(context: &mut Context<'_>) -> Result<()> {
    if context.options.qemu_ga.is_some() {
        return from_package(context);
    }
    if !context.guest.has_guest_agent {
        if matches!(context.guest.package_format.as_str(), "" | "portage") {
            let reason = "qemu-guest-agent is not installed, and no package manager brings it";
            context.recorder.skip(reason);
            return Ok(());
        }
        context
            .firstboot
            .add_repeatable("install-guest-agent", format!("{FROM_SOURCES}{START}"));
        context.firstboot.want_network();
        context.recorder.not_needed(
            "qemu-guest-agent is not installed; the first boot installs it if its package sources can be reached",
        );
        return Ok(());
    }
    let enabled = match context.guest.init.as_str() {
        "systemd" => systemd(context)?,
        "openrc" => openrc(context)?,
        "runit" => runit(context)?,
        _ => sysv(context)?,
    };
    if enabled {
        let reason = "qemu-guest-agent is installed and starts at boot";
        context.recorder.not_needed(reason);
    }
    Ok(())
}

/// The package that the host sent along, or that an earlier conversion left there.
fn from_package(context: &mut Context<'_>) -> Result<()> {
    copy_in(context)?;
    let found = ["deb", "rpm"]
        .into_iter()
        .map(|suffix| (suffix, format!("{PACKAGE}.{suffix}")))
        .find(|(_, path)| context.root.is_file(path));
    let Some((suffix, path)) = found else {
        let reason = "the package of --qemu-ga did not arrive in the guest";
        context.recorder.skip(reason);
        context
            .recorder
            .warn(format!("{reason}: install qemu-guest-agent by hand"));
        return Ok(());
    };
    let hash = context.recorder.hash(&path)?;
    let install = if suffix == "deb" {
        "dpkg -i"
    } else {
        "rpm -Uvh --replacepkgs"
    };
    let body = format!(
        "#!/bin/sh\n# Installs qemu-guest-agent from the package of --qemu-ga.\n\
         LC_ALL=C DEBIAN_FRONTEND=noninteractive\nexport LC_ALL DEBIAN_FRONTEND\n\
         [ -f {path} ] || exit 0\n\
         echo \"SHA-256 of the package was {hash} when it was copied in\"\n\
         command -v sha256sum >/dev/null 2>&1 && sha256sum {path}\n\
         {install} {path} || {{ echo \"{path} could not be installed and is left there\"; exit 0; }}\n\
         rm -f {path}\n{START}"
    );
    context
        .firstboot
        .add_repeatable("install-guest-agent", body);
    context
        .recorder
        .not_needed(format!("the first boot installs {path}, SHA-256 {hash}"));
    Ok(())
}

fn copy_in(context: &mut Context<'_>) -> Result<()> {
    let member = context.options.qemu_ga.as_deref().unwrap_or_default();
    if context.payload.member(member).is_err() {
        return Ok(());
    }
    let suffix = if member.ends_with(".deb") {
        "deb"
    } else {
        "rpm"
    };
    let dir = split(PACKAGE)?.0;
    context.recorder.create_dir_all(dir)?;
    context.recorder.install(
        context.payload,
        member,
        &format!("{PACKAGE}.{suffix}"),
        "the first boot installs it",
    )?;
    Ok(())
}

/// Makes the links that `systemctl enable` would make (systemd.unit(5), "[Install] section options"). A unit without
/// that section is started by its udev rule, as in some releases of Debian.
fn systemd(context: &mut Context<'_>) -> Result<bool> {
    let own = join("/etc/systemd/system", UNIT);
    if context
        .root
        .read_link(&own)
        .is_ok_and(|target| target == "/dev/null")
    {
        let reason = "qemu-guest-agent is installed but masked by the administrator; left so";
        context.recorder.warn(reason);
        context.recorder.skip(reason);
        return Ok(false);
    }
    let candidates = UNIT_DIRS.iter().map(|dir| join(dir, UNIT)).chain([own]);
    let Some(path) = candidates
        .into_iter()
        .find(|path| context.root.is_file(path))
    else {
        return sysv(context);
    };
    let text = context.root.text(&path).unwrap_or_default();
    let wanted_by = text
        .lines()
        .skip_while(|line| line.trim() != "[Install]")
        .filter_map(|line| line.trim().strip_prefix("WantedBy="))
        .flat_map(str::split_whitespace)
        .filter(|unit| !unit.contains('/'));
    for unit in wanted_by {
        let link = format!("/etc/systemd/system/{unit}.wants/{UNIT}");
        context.recorder.symlink(&link, &path, WHY)?;
    }
    Ok(true)
}

fn openrc(context: &mut Context<'_>) -> Result<bool> {
    let target = "/etc/init.d/qemu-guest-agent";
    if !context.root.is_file(target) {
        return cannot(context);
    }
    let link = "/etc/runlevels/default/qemu-guest-agent";
    context.recorder.symlink(link, target, WHY)?;
    Ok(true)
}

fn runit(context: &mut Context<'_>) -> Result<bool> {
    if !context.root.is_dir("/etc/sv/qemu-ga") {
        return cannot(context);
    }
    let link = "/etc/runit/runsvdir/default/qemu-ga";
    context.recorder.symlink(link, "/etc/sv/qemu-ga", WHY)?;
    Ok(true)
}

/// Start links in the runlevels 2 to 5, unless there is one anywhere already.
fn sysv(context: &mut Context<'_>) -> Result<bool> {
    let scripts = SCRIPTS
        .iter()
        .map(|name| (*name, format!("/etc/init.d/{name}")));
    let Some((name, path)) = scripts
        .into_iter()
        .find(|(_, path)| context.root.is_file(path))
    else {
        return cannot(context);
    };
    let dirs = rc_dirs(context.root);
    let started = dirs.iter().any(|dir| {
        let names = context.root.names(dir);
        names
            .iter()
            .any(|link| start_link(link).is_some_and(|(_, service)| service == name))
    });
    if started {
        return Ok(true);
    }
    let levels = dirs.iter().filter(|dir| {
        ["2.d", "3.d", "4.d", "5.d"]
            .iter()
            .any(|end| dir.ends_with(end))
    });
    let mut made = false;
    for dir in levels {
        for old in context.root.names(dir) {
            if old.starts_with('K') && old.get(3..) == Some(name) {
                let why = "a start link takes its place";
                context.recorder.remove(&join(dir, &old), why)?;
            }
        }
        let link = format!("{dir}/S90{name}");
        context.recorder.symlink(&link, &path, WHY)?;
        made = true;
    }
    if made { Ok(true) } else { cannot(context) }
}

fn cannot(context: &mut Context<'_>) -> Result<bool> {
    let reason = "qemu-guest-agent is installed, but how it is started here is not known";
    context.recorder.skip(reason);
    context
        .recorder
        .warn(format!("{reason}: enable its service by hand"));
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::tests::tree::{Tree, mac, options, run};

    /// Runs this step alone and says what it changed and asked for.
    fn applied(
        tree: &Tree,
        init: &str,
        qemu_ga: bool,
    ) -> (Vec<String>, crate::linux::steps::firstboot::Scripts) {
        let root = tree.root();
        let mut guest = tree.inspect();
        guest.init = init.into();
        let mut options = options(&[mac(1)]);
        options.qemu_ga = qemu_ga.then(|| "qemu-guest-agent.rpm".into());
        let lent = crate::Lent::default();
        let mut context = Context::new(&root, &guest, &tree.storage, &options, &lent);
        context.recorder.begin("guest-agent");
        apply(&mut context).unwrap();
        let scripts = std::mem::take(&mut context.firstboot);
        let changes = context.recorder.changes().iter();
        (changes.map(|change| change.path.clone()).collect(), scripts)
    }

    #[test]
    fn each_init_gets_its_link_once() {
        let tree = Tree::debian();
        tree.put("/etc/init.d/qemu-guest-agent", b"#!/bin/sh\n");
        for level in 0..=6 {
            fs::create_dir_all(tree.at(&format!("/etc/rc{level}.d"))).unwrap();
        }
        tree.put("/etc/rc3.d/K20qemu-guest-agent", b"");
        fs::create_dir_all(tree.at("/etc/sv/qemu-ga")).unwrap();
        let sysv = [
            "/etc/rc2.d/S90qemu-guest-agent",
            "/etc/rc3.d/K20qemu-guest-agent",
            "/etc/rc3.d/S90qemu-guest-agent",
            "/etc/rc4.d/S90qemu-guest-agent",
            "/etc/rc5.d/S90qemu-guest-agent",
        ];
        let cases: [(&str, &[&str]); 3] = [
            ("sysvinit", &sysv),
            ("openrc", &["/etc/runlevels/default/qemu-guest-agent"]),
            ("runit", &["/etc/runit/runsvdir/default/qemu-ga"]),
        ];
        for (init, expected) in cases {
            assert_eq!(applied(&tree, init, false).0, expected, "{init}");
            assert_eq!(applied(&tree, init, false).0, Vec::<String>::new());
        }
    }

    #[test]
    fn a_missing_agent_is_installed_at_the_first_boot() {
        let tree = Tree::debian();
        tree.put(
            "/var/lib/dpkg/status",
            b"Package: bash\nStatus: install ok installed\n",
        );
        let (changes, scripts) = applied(&tree, "systemd", false);
        assert_eq!(changes, Vec::<String>::new());
        assert!(format!("{scripts:?}").contains("network: true"));
        assert!(format!("{scripts:?}").contains("install-guest-agent"));
    }

    #[test]
    fn a_package_that_was_brought_is_installed_without_the_network() {
        let tree = Tree::debian();
        let (_, none) = applied(&tree, "systemd", true);
        assert!(!format!("{none:?}").contains("install-guest-agent"));
        tree.put("/var/lib/v2v/qemu-guest-agent.rpm", b"package");
        let text = format!("{:?}", applied(&tree, "systemd", true).1);
        assert!(
            text.contains("rpm -Uvh --replacepkgs /var/lib/v2v/qemu-guest-agent.rpm"),
            "{text}"
        );
        assert!(
            text.contains(&crate::recorder::sha256(b"package")),
            "{text}"
        );
        assert!(text.contains("network: false"), "{text}");
    }

    #[test]
    fn the_scripts_are_shell() {
        run(Command::new("/bin/sh").args(["-n", "-c", &format!("{FROM_SOURCES}{START}")]));
    }
}
