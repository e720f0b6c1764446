//! The promise of P2V in full: a machine boots our ISO, nobody touches it, and a guest that boots on virtio and keeps its
//! address is there.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::guest::{Sample, SampleGuest, sample};
use testkit::physical::{Firmware, MAC, Medium, PhysicalMachine, Storage};
use v2v_tests::p2v::{
    IsoRig, SOON, assert_proved, boots_on_virtio, domain, image, note, progress, used_bytes,
};
use v2v_tests::{assert_image_clean, mac_of};

struct Case {
    sample: Sample,
    name: &'static str,
    storage: Storage,
    firmware: Firmware,
    /// Kernel words beside the name.
    kargs: &'static str,
    /// Powered on with this in the hardware clock.
    clock: Option<&'static str>,
    /// Somebody presses the reset button in the midst of the copy.
    is_reset: bool,
}

impl Case {
    fn machine(&self, guest: &SampleGuest, rig: &IsoRig) -> PhysicalMachine {
        let machine = PhysicalMachine::new(&guest.raw, self.storage)
            .firmware(self.firmware)
            .medium(Medium::Cd(rig.iso.clone()))
            .smbios("manufacturer", "Rig Works")
            .smbios("product", "Server 1, rev B")
            .smbios("serial", "RW-0042")
            .smbios("uuid", "5a3d1f00-7777-4000-8000-000000000042");
        match self.clock {
            Some(time) => machine.clock(time),
            None => machine,
        }
    }

    fn arrives(&self) -> Result<()> {
        let guest = sample(self.sample)?;
        let kargs = format!("p2v.name={} p2v.post=poweroff {}", self.name, self.kargs);
        let mut rig = IsoRig::new(&["--auto-approve"], Some(kargs.trim()))?;
        let mut machine = self.machine(&guest, &rig).start()?;
        let (id, to_agent) = rig.wait_job(&mut machine)?;
        if self.is_reset {
            rig.server
                .wait_received(id, 100 << 20, v2v_tests::p2v::JOB)
                .with_context(|| machine.console.transcript())?;
            machine.reset()?;
            rig.wait_state(&mut machine, id, &["waiting-for-agent"])?;
        }
        let done = rig.wait_state(&mut machine, id, &["done"])?;
        // It powers itself off, as it was told.
        machine.console.wait_off(SOON)?;
        self.report(&guest, &rig, &done, to_agent)?;
        assert_proved(&done)?;
        self.knows_the_machine(&done, &rig)?;
        rig.server.stop()?;
        drop(machine);
        if self.firmware == Firmware::SecureBoot {
            // The guest is the UEFI machine's, which is booted; here the medium and the reset are what is tried.
            return assert_image_clean(&image(&rig.server, self.name));
        }
        let (image, domain) = (
            image(&rig.server, self.name),
            domain(&rig.server, self.name),
        );
        let look = "findmnt -no SOURCE /; ip -br addr show ens192";
        let seen = boots_on_virtio(&guest, &image, &domain, look)?;
        ensure!(seen.contains("10.11.12.13/24"), "{seen}");
        ensure!(
            seen.contains("/dev/vda") || seen.contains("vg0-root"),
            "{seen}"
        );
        Ok(())
    }

    /// What the issue wants to have reported, and that unused blocks did not travel.
    fn report(
        &self,
        guest: &SampleGuest,
        rig: &IsoRig,
        done: &serde_json::Value,
        to_agent: Duration,
    ) -> Result<()> {
        let (used, wire) = (used_bytes(&guest.raw)?, rig.proxy.traffic().total());
        let milliseconds = |from: &str, to: &str| {
            let number = |field: &str| done["job"][field].as_u64().unwrap_or(0);
            number(to).saturating_sub(number(from))
        };
        let took = milliseconds("created_unix_ms", "ended_unix_ms").max(1);
        let received = progress(done, "received_bytes")?;
        note(&format!(
            "{} ({:?}, {:?}): agent after {:.1} s, first byte {} ms later, job {:.1} s, {} MiB received \
             ({} KiB/s over the whole job), {} MiB crossed, {} MiB used, disk {} MiB",
            self.name,
            self.firmware,
            self.storage,
            to_agent.as_secs_f64(),
            progress(done, "first_byte_ms")?,
            Duration::from_millis(took).as_secs_f64(),
            received >> 20,
            (received >> 10) * 1000 / took,
            wire >> 20,
            used >> 20,
            guest.virtual_size >> 20
        ));
        ensure!(
            wire < used / 10 * 11,
            "{wire} bytes crossed the network, {used} are used"
        );
        Ok(())
    }

    /// Firmware, MAC and SMBIOS reached the server, and what belongs there the domain.
    fn knows_the_machine(&self, done: &serde_json::Value, rig: &IsoRig) -> Result<()> {
        let inventory = done["inventory"].to_string();
        for fact in ["Rig Works", "Server 1, rev B", "RW-0042"] {
            ensure!(inventory.contains(fact), "no {fact} in {inventory}");
        }
        let disks = done["disks"].to_string();
        ensure!(disks.contains("RIG-DISK-0"), "{disks}");
        let path = domain(&rig.server, self.name);
        ensure!(mac_of(&path)? == MAC, "{}", mac_of(&path)?);
        let xml = fs::read_to_string(&path)?;
        let is_uefi = xml.contains("firmware=\"efi\"") || xml.contains("pflash");
        ensure!(is_uefi == (self.firmware != Firmware::Bios), "{xml}");
        if self.firmware == Firmware::SecureBoot {
            ensure!(xml.contains("secure"), "{xml}");
        }
        Ok(())
    }
}

#[test]
fn a_bios_machine_whose_clock_is_ten_years_off_arrives() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    Case {
        sample: Sample::Lvm,
        name: "bios-machine",
        storage: Storage::Ahci,
        firmware: Firmware::Bios,
        kargs: "",
        clock: Some("2016-01-01T00:00:00"),
        is_reset: false,
    }
    .arrives()
}

#[test]
fn a_uefi_machine_with_a_static_address_arrives() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    Case {
        sample: Sample::Uefi,
        name: "uefi-machine",
        storage: Storage::Nvme,
        firmware: Firmware::Uefi,
        kargs: "ip=10.0.2.50::10.0.2.2:255.255.255.0:rig::10.0.2.3",
        clock: None,
        is_reset: false,
    }
    .arrives()
}

#[test]
fn a_machine_that_enforces_secure_boot_and_is_reset_arrives() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    Case {
        sample: Sample::Uefi,
        name: "secure-machine",
        storage: Storage::Ahci,
        firmware: Firmware::SecureBoot,
        kargs: "",
        clock: None,
        is_reset: true,
    }
    .arrives()
}
