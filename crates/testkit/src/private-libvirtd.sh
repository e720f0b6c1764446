#!/bin/sh
# Runs a libvirt daemon of its own beside whatever the host has: own configuration, state, processes and, unless
# SHARE_NET=1, an own network. Needs root, libvirtd and virtlogd.
#
#   private-libvirtd.sh DIR
#
# Prints `ready URI` when the daemon answers; the URI works for every process of this host. It lasts until stdin
# ends: when the caller dies, however it dies, the daemon, its guests and its networks die too.
set -eu
dir=$1

if [ -z "${V2V_INSIDE:-}" ]; then
  V2V_INSIDE=1
  export V2V_INSIDE
  net=--net
  [ "${SHARE_NET:-}" = 1 ] && net=
  # $net is one word or none.
  exec unshare --mount --pid --fork --kill-child=KILL --mount-proc $net -- "$0" "$dir"
fi

default=
for file in /usr/share/libvirt/networks/default.xml /etc/libvirt/qemu/networks/default.xml; do
  [ -r "$file" ] && default=$(cat "$file") && break
done
for folder in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
  [ -d "$folder" ] && mount -t tmpfs tmpfs "$folder"
done
mkdir -p /run/lock /var/lib/libvirt/images /var/lib/libvirt/dnsmasq "$dir/run"
ip link set lo up 2>/dev/null || true

cat >/etc/libvirt/libvirtd.conf <<END
unix_sock_dir = "$dir/run"
unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
END
# Guests run as root and unconfined, so that disks in any temporary folder can be opened.
cat >/etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
END
touch /etc/libvirt/virtlogd.conf

# virtlogd's socket lies in the private /run, where only this libvirtd sees it.
virtlogd >"$dir/virtlogd.log" 2>&1 </dev/null &
libvirtd -f /etc/libvirt/libvirtd.conf >"$dir/libvirtd.log" 2>&1 </dev/null &
uri="qemu:///system?socket=$dir/run/libvirt-sock"
tries=0
until virsh -c "$uri" uri >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 100 ]; then
    cat "$dir/libvirtd.log" >&2
    exit 1
  fi
  sleep 0.1
done
if [ -n "$default" ]; then
  printf '%s\n' "$default" >/run/default.xml
  virsh -q -c "$uri" net-info default >/dev/null 2>&1 || virsh -q -c "$uri" net-define /run/default.xml
fi
echo "ready $uri"
cat >/dev/null
# The host's network outlives this script, its own does not.
if [ "${SHARE_NET:-}" = 1 ]; then
  virsh -q -c "$uri" net-list --name | while read -r net; do
    [ -z "$net" ] || virsh -q -c "$uri" net-destroy "$net" >/dev/null
  done
fi
# The end of this script, which is process 1 of its namespace, ends everything in it.
