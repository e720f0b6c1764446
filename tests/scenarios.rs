//! End-to-end scenarios. Each module is one story; `cargo xtask test` prepares what they need.

mod bare_disk_becomes_raw;
mod blank_and_foreign_disks_are_refused;
mod command_lines_of_virt_v2v;
mod customised_guest;
mod hostile_ovas_are_refused;
mod inspect_tells_before;
mod interrupted_runs_leave_nothing;
mod libvirt_guest_is_defined_and_runs;
mod machines_of_other_hypervisors_boot;
mod matrix_guests_boot;
mod ova_boots_on_virtio;
mod p2v_agent_sends_a_disk;
mod p2v_bad_sectors_are_mapped;
mod p2v_by_hand_on_serial;
mod p2v_faults_end_in_the_same_image;
mod p2v_four_at_once;
mod p2v_iso_machines_arrive;
mod p2v_md_raid1_arrives;
mod p2v_resync_sends_changes_only;
mod p2v_strangers_are_refused;
mod p2v_two_disks;
mod p2v_web_page;
mod target_without_room;
mod unknown_guests_are_copied;
mod windows_guests_are_converted;
mod windows_that_sleeps_is_refused;
