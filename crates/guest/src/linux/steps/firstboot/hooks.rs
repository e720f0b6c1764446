//! What makes each init start the runner: never waited for, never before the guest's own services.

use crate::linux::convert::Context;
use crate::{Recorder, Result};

/// The command, as every init is told it.
const COMMAND: &str = "/bin/sh /var/lib/v2v/firstboot/run";
const NAME: &str = "v2v-firstboot";
const WHY: &str = "starts v2v's scripts at the first boot, which then remove it";

/// One file, link or line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// A file of its own.
    File {
        path: String,
        text: String,
        mode: u32,
    },
    /// A link of its own.
    Link { path: String, target: String },
    /// A directory of its own, known to the runner only: the files in it are hooks before it.
    Dir { path: String },
    /// One more line at the end of a file of the guest.
    Line { path: String, line: String },
}

impl Hook {
    /// How the runner is told to take it away.
    pub(super) fn line(&self) -> String {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } => format!("file {path}\n"),
            Self::Dir { path } => format!("dir {path}\n"),
            Self::Line { path, .. } => format!("line {path}\n"),
        }
    }

    /// Puts it into the guest.
    pub(super) fn install(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        match self {
            Self::File { path, text, mode } => {
                recorder.write_mode(path, text.as_bytes(), *mode, WHY)?;
            }
            Self::Link { path, target } => {
                recorder.symlink(path, target, WHY)?;
            }
            Self::Dir { .. } => {}
            Self::Line { path, line } => {
                recorder.edit(path, WHY, |text| {
                    let newline = if text.is_empty() || text.ends_with('\n') {
                        ""
                    } else {
                        "\n"
                    };
                    let there = text.lines().any(|have| have == line);
                    (!there).then(|| format!("{text}{newline}{line}\n"))
                })?;
            }
        }
        Ok(())
    }
}

/// What this guest's init needs; `None` when it is not known.
pub(super) fn hooks(context: &Context<'_>, network: bool) -> Option<Vec<Hook>> {
    let root = context.root;
    match context.guest.init.as_str() {
        "systemd" => Some(systemd(network)),
        "upstart" => Some(vec![upstart()]),
        "openrc" => {
            let runner = [
                "/sbin/openrc-run",
                "/usr/sbin/openrc-run",
                "/sbin/runscript",
            ]
            .into_iter()
            .find(|path| root.is_file(path))
            .unwrap_or("/sbin/openrc-run");
            Some(openrc(runner))
        }
        "runit" => Some(runit(root)),
        _ if root.is_file("/etc/inittab") => {
            let busybox = root
                .read_link("/sbin/init")
                .is_ok_and(|target| target.contains("busybox"));
            Some(vec![inittab(busybox)])
        }
        _ => None,
    }
}

fn file(path: impl Into<String>, text: impl Into<String>, mode: u32) -> Hook {
    Hook::File {
        path: path.into(),
        text: text.into(),
        mode,
    }
}

/// A target is ordered after what it wants, unless that says the contrary (systemd.target(5)): `After=` makes the
/// boot end before the scripts begin. A one-shot service has no time limit of its own (systemd.service(5)); the
/// runner has.
fn systemd(network: bool) -> Vec<Hook> {
    let online = if network {
        "Wants=network-online.target\nAfter=network-online.target\n"
    } else {
        ""
    };
    let unit = format!(
        "# Written by v2v; removes itself.\n\
         [Unit]\nDescription=Scripts of the first boot after conversion by v2v\n\
         ConditionPathExists=/var/lib/v2v/firstboot/run\n\
         RequiresMountsFor=/var/lib/v2v /var/log\nAfter=local-fs.target multi-user.target\n{online}\n\
         [Service]\nType=oneshot\nExecStart={COMMAND}\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let path = format!("/etc/systemd/system/{NAME}.service");
    vec![
        file(&path, unit, 0o644),
        Hook::Link {
            path: format!("/etc/systemd/system/multi-user.target.wants/{NAME}.service"),
            target: path,
        },
    ]
}

/// init(5): a task that starts when the scripts of the runlevel have ended.
fn upstart() -> Hook {
    let text = format!(
        "# Written by v2v; removes itself.\n\
         description \"Scripts of the first boot after conversion by v2v\"\n\
         start on stopped rc RUNLEVEL=[2345]\ntask\nexec {COMMAND}\n"
    );
    file(format!("/etc/init/{NAME}.conf"), text, 0o644)
}

/// openrc-run(8). In the background: OpenRC waits for what it starts.
fn openrc(runner: &str) -> Vec<Hook> {
    let text = format!(
        "#!{runner}\n# Written by v2v; removes itself.\n\
         description=\"Scripts of the first boot after conversion by v2v\"\n\n\
         depend() {{\n\tneed localmount\n\tafter *\n}}\n\n\
         start() {{\n\t{COMMAND} </dev/null >/dev/null 2>&1 &\n\treturn 0\n}}\n"
    );
    let path = format!("/etc/init.d/{NAME}");
    vec![
        file(&path, text, 0o755),
        Hook::Link {
            path: format!("/etc/runlevels/default/{NAME}"),
            target: path,
        },
    ]
}

/// runsv(8) starts a service again when it ends, so this one stays until the runner has removed it.
fn runit(root: &crate::Root) -> Vec<Hook> {
    let sv = if root.is_dir("/etc/sv") || !root.is_dir("/etc/runit/sv") {
        "/etc/sv"
    } else {
        "/etc/runit/sv"
    };
    let dir = format!("{sv}/{NAME}");
    let text = format!(
        "#!/bin/sh\n# Written by v2v; removes itself.\n{COMMAND} </dev/null >/dev/null 2>&1\nexec sleep 86400\n"
    );
    vec![
        file(format!("{dir}/run"), text, 0o755),
        Hook::Link {
            path: format!("/etc/runit/runsvdir/default/{NAME}"),
            target: dir.clone(),
        },
        Hook::Dir { path: dir },
    ]
}

/// inittab(5): the last line runs after those that `wait`, and init does not wait for `once`. busybox's first field is
/// a terminal.
fn inittab(busybox: bool) -> Hook {
    let line = if busybox {
        format!("::once:{COMMAND}")
    } else {
        format!("v2v:2345:once:{COMMAND}")
    };
    Hook::Line {
        path: "/etc/inittab".into(),
        line,
    }
}
