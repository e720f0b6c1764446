//! DHCP: the client, the script that applies what it was told, and /etc/resolv.conf.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::state::write;
use super::{Error, Net};

/// What udhcpc runs. Its variables are words of a DHCP server: quoted, or split at spaces where they are lists.
/// RFC 3442: with classless static routes the router option does not count. Protocol 16 is dhcp in the kernel's list
/// (rtnetlink.h). The metric keeps routes of several interfaces apart.
const SCRIPT: &str = r#"#!/bin/sh
servers=@RUN@/resolv
case "$1" in
deconfig)
    ip -4 address flush dev "$interface"
    ip link set dev "$interface" up
    rm -f "$servers/$interface"
    ;;
bound | renew)
    [ "$1" = bound ] && ip -4 address flush dev "$interface"
    ip -4 address replace "$ip/${mask:-24}" broadcast + dev "$interface"
    read -r index <"/sys/class/net/$interface/ifindex"
    ip -4 route flush dev "$interface" proto 16
    if [ -n "$staticroutes" ]; then
        set -- $staticroutes
        while [ $# -ge 2 ]; do
            if [ "$2" = 0.0.0.0 ]; then
                ip -4 route replace "$1" dev "$interface" proto 16 metric $((1000 + index))
            else
                ip -4 route replace "$1" via "$2" dev "$interface" onlink proto 16 metric $((1000 + index))
            fi
            shift 2
        done
    else
        for first in $router; do
            ip -4 route replace default via "$first" dev "$interface" onlink proto 16 metric $((1000 + index))
            break
        done
    fi
    mkdir -p "$servers"
    for server in $dns; do echo "nameserver $server"; done >"$servers/$interface"
    ;;
*)
    exit 0
    ;;
esac
cat "$servers"/* 2>/dev/null >@RESOLV@
exit 0
"#;

impl Net<'_> {
    pub(super) fn pid_file(&self, name: &str) -> PathBuf {
        self.places.run.join(format!("udhcpc.{name}.pid"))
    }

    /// Name servers of one interface, in resolv.conf's words.
    pub(super) fn name_servers(&self, name: &str) -> PathBuf {
        self.places.run.join("resolv").join(name)
    }

    fn script(&self) -> PathBuf {
        self.places.run.join("udhcpc.script")
    }

    /// Writes the script.
    pub(super) fn prepare_dhcp(&self) -> Result<(), Error> {
        let path = self.script();
        let text = SCRIPT
            .replace("@RUN@", &self.places.run.to_string_lossy())
            .replace("@RESOLV@", &self.places.resolv_conf.to_string_lossy());
        write(&path, &text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|source| Error::File { path, source })
    }

    /// Asks for a lease: 4 questions of 2 s, then the client goes on in the background, asking again every 10 s; with
    /// a lease it goes there at once.
    pub(super) fn dhcp(&self, name: &str) -> Result<(), Error> {
        let script = self.script();
        let pid_file = self.pid_file(name);
        self.runner.background(&[
            "udhcpc",
            "-i",
            name,
            "-s",
            &script.to_string_lossy(),
            "-p",
            &pid_file.to_string_lossy(),
            "-O",
            "staticroutes",
            "-t",
            "4",
            "-T",
            "2",
            "-A",
            "10",
            "-b",
        ])
    }

    /// Puts the name servers of all interfaces together.
    pub(super) fn write_resolv_conf(&self) -> Result<(), Error> {
        let mut all = String::new();
        let folder = fs::read_dir(self.places.run.join("resolv"));
        let mut files: Vec<PathBuf> = folder
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            all.push_str(&fs::read_to_string(file).unwrap_or_default());
        }
        write(&self.places.resolv_conf, &all)
    }
}
