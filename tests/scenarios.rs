//! End-to-end scenarios. Each module is one story; `cargo xtask test` prepares what they need.

mod bare_disk_becomes_raw;
mod blank_and_foreign_disks_are_refused;
mod command_lines_of_virt_v2v;
mod hostile_ovas_are_refused;
mod interrupted_runs_leave_nothing;
mod libvirt_guest_is_defined_and_runs;
mod machines_of_other_hypervisors_boot;
mod ova_boots_on_virtio;
mod target_without_room;
