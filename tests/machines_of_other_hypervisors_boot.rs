//! The promise: a VMware machine with a snapshot and an exported Hyper-V machine go in as the folders that they are,
//! and guests that boot on virtio and keep their address come out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::boot::{Boot, Bus};
use testkit::cmd;
use testkit::guest::{Sample, SampleGuest, sample};
use v2v_tests::{arg, assert_image_clean, mac_of, ok};

/// TCG on two cores that other tests use too.
const LOGIN: Duration = Duration::from_secs(400);
const MAC: &str = "00:50:56:01:02:03";

/// Converts, and boots what came out.
fn boots(guest: &SampleGuest, name: &str, mode: &str, source: &Path) -> Result<()> {
    let out = tempfile::tempdir_in(testkit::target_dir())?;
    let understood = ok(["-i", mode, &arg(source), "--print-source"])?;
    ensure!(understood.contains(MAC), "{understood}");
    let folder = arg(out.path());
    ok([
        "-i",
        mode,
        &arg(source),
        "-o",
        "local",
        "-os",
        &folder,
        "-of",
        "qcow2",
    ])?;
    let disk = out.path().join(format!("{name}-sda"));
    assert_image_clean(&disk)?;
    let mac = mac_of(&out.path().join(format!("{name}.xml")))?;
    ensure!(mac == MAC, "the source has {MAC}, the domain {mac}");
    let mut boot = Boot::new(&disk, "qcow2")
        .bus(Bus::Virtio)
        .net(guest.static_ip, guest.gateway, Some(&mac))
        .start()?;
    boot.wait_login(LOGIN)?;
    let banner = boot.ssh_banner(Duration::from_secs(120))?;
    ensure!(banner.starts_with("SSH-2.0-"), "{banner}");
    Ok(())
}

/// Runs qemu-img in a folder.
fn qemu_img<const N: usize>(folder: &Path, args: [&str; N]) -> Result<()> {
    cmd::output(cmd::command("qemu-img", args).current_dir(folder)).map(drop)
}

#[test]
fn a_vmware_machine_with_a_snapshot_boots() -> Result<()> {
    let guest = sample(Sample::Bios)?;
    let folder = tempfile::tempdir_in(testkit::target_dir())?;
    let raw = arg(&guest.raw);
    qemu_img(
        folder.path(),
        ["convert", "-f", "raw", "-O", "vmdk", &raw, "web.vmdk"],
    )?;
    qemu_img(
        folder.path(),
        [
            "create",
            "-q",
            "-f",
            "vmdk",
            "-b",
            "web.vmdk",
            "-F",
            "vmdk",
            "web-000001.vmdk",
        ],
    )?;
    let vmx = folder.path().join("web.vmx");
    let text = format!(
        "displayName = \"web\"\nguestOS = \"debian12-64\"\nmemSize = \"1024\"\nnumvcpus = \"2\"\n\
         scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"lsisas1068\"\nscsi0:0.present = \"TRUE\"\n\
         scsi0:0.fileName = \"/vmfs/volumes/63f1/web/web-000001.vmdk\"\n\
         ethernet0.present = \"TRUE\"\nethernet0.virtualDev = \"e1000\"\nethernet0.networkName = \"VM Network\"\n\
         ethernet0.addressType = \"static\"\nethernet0.address = \"{MAC}\"\n"
    );
    fs::write(&vmx, text)?;
    boots(&guest, "web", "vmx", &vmx)
}

#[test]
fn an_exported_hyper_v_machine_boots() -> Result<()> {
    if !testkit::long_story() {
        return Ok(());
    }
    let guest = sample(Sample::Bios)?;
    let folder = tempfile::tempdir_in(testkit::target_dir())?;
    let (machines, disks) = (
        folder.path().join("Virtual Machines"),
        folder.path().join("Virtual Hard Disks"),
    );
    fs::create_dir(&machines)?;
    fs::create_dir(&disks)?;
    qemu_img(
        &disks,
        [
            "convert",
            "-f",
            "raw",
            "-O",
            "vhdx",
            &arg(&guest.raw),
            "web.vhdx",
        ],
    )?;
    let dashed = MAC.to_uppercase().replace(':', "-");
    let id = "7FFEE066-9755-4950-9A16-4C94AC67AD00";
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\" standalone=\"yes\"?>\r\n<configuration>\
         <_55225880-49c0-4438-9ce2-5a01402fd8cb_><Connection><AltSwitchName type=\"string\">External</AltSwitchName>\
         </Connection><FriendlyName type=\"string\">Network Adapter</FriendlyName>\
         <IsConnected type=\"bool\">True</IsConnected><MacAddress type=\"string\">{dashed}</MacAddress>\
         <MacAddressIsStatic type=\"bool\">True</MacAddressIsStatic></_55225880-49c0-4438-9ce2-5a01402fd8cb_>\
         <_83f8638b-8dca-4152-9eda-2ca8b33039b4_><controller0><drive0>\
         <pathname type=\"string\">C:\\VMs\\web\\Virtual Hard Disks\\web.vhdx</pathname><type type=\"string\">VHD</type>\
         </drive0></controller0></_83f8638b-8dca-4152-9eda-2ca8b33039b4_>\
         <manifest><size type=\"integer\">2</size><vdev001>\
         <device type=\"string\">2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778</device>\
         <instance type=\"string\">55225880-49C0-4438-9CE2-5A01402FD8CB</instance></vdev001><vdev002>\
         <device type=\"string\">83f8638b-8dca-4152-9eda-2ca8b33039b4</device>\
         <instance type=\"string\">83F8638B-8DCA-4152-9EDA-2CA8B33039B4</instance></vdev002></manifest>\
         <properties><global_id type=\"string\">{id}</global_id><name type=\"string\">web</name>\
         <subtype type=\"integer\">0</subtype><version type=\"integer\">1280</version></properties>\
         <settings><memory><bank><size type=\"integer\">1024</size></bank></memory>\
         <processors><count type=\"integer\">2</count></processors></settings></configuration>\r\n"
    );
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(xml.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(machines.join(format!("{id}.xml")), utf16)?;
    boots(&guest, "web", "hyperv", folder.path())
}
