//! Where a converted guest goes: local, libvirt, qemu, null; and its domain XML.
