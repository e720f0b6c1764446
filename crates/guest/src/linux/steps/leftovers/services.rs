//! Disabling services, done to the files as `systemctl disable`, `update-rc.d disable`, `rc-update del` and an upstart
//! override do it.

use crate::linux::convert::Context;
use crate::root::{Kind, join};
use crate::{Recorder, Result};

const SUFFIXES: [&str; 5] = [".service", ".mount", ".socket", ".path", ".timer"];
const ETC: &str = "/etc/systemd/system";

/// Services to disable, without suffix; `*` at the end stands for the rest of the name.
pub(crate) struct Services<'a> {
    pub(crate) names: &'a [&'a str],
    pub(crate) why: &'a str,
}

impl Services<'_> {
    /// True when the unit or init script is one of these.
    fn has(&self, unit: &str) -> bool {
        let stem = SUFFIXES
            .iter()
            .find_map(|suffix| unit.strip_suffix(suffix))
            .unwrap_or(unit);
        // An instance is disabled with its template.
        let stem = stem.split('@').next().unwrap_or(stem);
        matches(self.names, stem)
    }

    /// Disables them for whatever init the guest may have.
    pub(crate) fn disable(&self, context: &mut Context<'_>) -> Result<()> {
        let root = context.root;
        let recorder = &mut context.recorder;
        self.systemd(recorder)?;
        self.sysv(recorder)?;
        for dir in root.names("/etc/runlevels") {
            self.links(recorder, &join("/etc/runlevels", &dir))?;
        }
        for dir in root.names("/etc/runit/runsvdir") {
            self.links(recorder, &join("/etc/runit/runsvdir", &dir))?;
        }
        if context.guest.init == "upstart" {
            self.upstart(recorder)?;
        }
        Ok(())
    }

    /// Removes links that enable such a unit: below /etc in `*.wants`, `*.requires`, and aliases. What the vendor
    /// enables below /usr/lib is masked instead, as its files are the package's.
    fn systemd(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let root = recorder.root();
        for entry in root.list(ETC)? {
            let path = join(ETC, &entry.name);
            match entry.kind {
                Kind::Dir if is_dependency_dir(&entry.name) => self.links(recorder, &path)?,
                Kind::Symlink => {
                    let target = root.read_link(&path)?;
                    let base = target.rsplit('/').next().unwrap_or_default();
                    if target != "/dev/null" && (self.has(&entry.name) || self.has(base)) {
                        recorder.remove(&path, self.why)?;
                    }
                }
                _ => {}
            }
        }
        for lib in ["/lib/systemd/system", "/usr/lib/systemd/system"] {
            let dirs = root.names(lib);
            for dir in dirs.iter().filter(|name| is_dependency_dir(name)) {
                for name in root.names(&join(lib, dir)) {
                    self.mask(recorder, &name)?;
                }
            }
        }
        Ok(())
    }

    fn mask(&self, recorder: &mut Recorder<'_>, unit: &str) -> Result<()> {
        let own = join(ETC, unit);
        if self.has(unit) && recorder.root().link_meta(&own).is_err() {
            recorder.symlink(&own, "/dev/null", self.why)?;
        }
        Ok(())
    }

    /// Links of one directory that are, or lead to, such a service.
    fn links(&self, recorder: &mut Recorder<'_>, dir: &str) -> Result<()> {
        let root = recorder.root();
        for entry in root.list(dir)? {
            if entry.kind != Kind::Symlink {
                continue;
            }
            let path = join(dir, &entry.name);
            let target = root.read_link(&path)?;
            if self.has(&entry.name) || self.has(target.rsplit('/').next().unwrap_or_default()) {
                recorder.remove(&path, self.why)?;
            }
        }
        Ok(())
    }

    /// `S20vboxadd` becomes `K80vboxadd`, as update-rc.d(8) does.
    fn sysv(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let root = recorder.root();
        for dir in rc_dirs(root) {
            for name in root.names(&dir) {
                let Some((number, service)) = start_link(&name).filter(|(_, name)| self.has(name))
                else {
                    continue;
                };
                let killed = format!(
                    "{dir}/K{:02}{service}",
                    100u8.saturating_sub(number).min(99)
                );
                recorder.rename(&join(&dir, &name), &killed, self.why)?;
            }
        }
        Ok(())
    }

    /// Upstart reads JOB.override (init(5)).
    fn upstart(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        for name in recorder.root().names("/etc/init") {
            if let Some(job) = name.strip_suffix(".conf").filter(|job| self.has(job)) {
                recorder.write(&format!("/etc/init/{job}.override"), b"manual\n", self.why)?;
            }
        }
        Ok(())
    }

    /// True when one of them is installed: a unit, an init script, or a job.
    pub(crate) fn any_installed(&self, context: &Context<'_>) -> bool {
        let dirs = [
            ETC,
            "/lib/systemd/system",
            "/usr/lib/systemd/system",
            "/etc/init.d",
            "/etc/sv",
        ];
        dirs.iter()
            .any(|dir| context.root.names(dir).iter().any(|name| self.has(name)))
    }
}

/// True when a name is in the list, whose entries may end in `*`.
pub(crate) fn matches(list: &[&str], name: &str) -> bool {
    list.iter().any(|entry| match entry.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => *entry == name,
    })
}

fn is_dependency_dir(name: &str) -> bool {
    name.ends_with(".wants") || name.ends_with(".requires")
}

/// Directories of a runlevel's links, each under the one name that is no link.
pub(crate) fn rc_dirs(root: &crate::Root) -> Vec<String> {
    let mut dirs = Vec::new();
    for above in ["/etc", "/etc/rc.d", "/etc/init.d"] {
        for level in ["0", "1", "2", "3", "4", "5", "6", "S"] {
            let dir = format!("{above}/rc{level}.d");
            let own = |path: &str| {
                root.link_meta(path)
                    .is_ok_and(|meta| meta.kind == Kind::Dir)
            };
            if own(above) && own(&dir) {
                dirs.push(dir);
            }
        }
    }
    dirs
}

/// Number and service of `S20service`.
pub(crate) fn start_link(name: &str) -> Option<(u8, &str)> {
    let rest = name.strip_prefix('S')?;
    let number = rest.get(..2)?.parse().ok()?;
    Some((number, rest.get(2..)?))
}
