//! Packs a sample's disk as VMware's ovftool exports a machine: OVF 1.x (DSP0243) with VMware's extensions, `.ovf` first in the
//! archive, SHA256 manifest, streamOptimized VMDK.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::disk::Disk;
use super::layout::{DISK_SECTORS, SECTOR};
use super::{Sample, hex};
use crate::cmd;

/// The disk's name in the archive.
pub(super) fn vmdk_name(which: Sample) -> String {
    format!("{}-disk1.vmdk", which.name())
}

/// Writes the OVA into `dir`.
pub(super) fn build(which: Sample, disk: &Disk, dir: &Path) -> Result<()> {
    let name = which.name();
    let vmdk = dir.join(vmdk_name(which));
    let options = "subformat=streamOptimized,adapter_type=lsilogic";
    cmd::output(
        cmd::command(
            "qemu-img",
            ["convert", "-f", "raw", "-O", "vmdk", "-o", options],
        )
        .arg(&disk.raw)
        .arg(&vmdk),
    )?;
    let size = fs::metadata(&vmdk).context("looking at the VMDK")?.len();
    let ovf = descriptor(which, size);
    let manifest = format!(
        "SHA256({name}.ovf)= {}\nSHA256({})= {}\n",
        hex(&Sha256::digest(ovf.as_bytes())),
        vmdk_name(which),
        sha256_of(&vmdk)?
    );
    let path = dir.join(format!("{name}.ova"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let mut archive = tar::Builder::new(file);
    archive.append_data(
        &mut header(ovf.len() as u64),
        format!("{name}.ovf"),
        ovf.as_bytes(),
    )?;
    archive.append_data(
        &mut header(manifest.len() as u64),
        format!("{name}.mf"),
        manifest.as_bytes(),
    )?;
    archive.append_data(
        &mut header(size),
        vmdk_name(which),
        BufReader::new(File::open(&vmdk)?),
    )?;
    let mut file = archive.into_inner().context("finishing the OVA")?;
    file.flush()?;
    file.sync_all().context("syncing the OVA")?;
    fs::remove_file(&vmdk).context("removing the VMDK")
}

/// Takes the VMDK out of the OVA.
pub(super) fn unpack_vmdk(ova: &Path, dir: &Path) -> Result<PathBuf> {
    let file = File::open(ova).with_context(|| format!("opening {}", ova.display()))?;
    let mut archive = tar::Archive::new(file);
    for member in archive.entries().context("reading the OVA")? {
        let mut member = member.context("reading the OVA")?;
        let name = member.path().context("reading the OVA")?.into_owned();
        if name.extension().is_some_and(|kind| kind == "vmdk") {
            let path = dir.join(name);
            member.unpack(&path).context("unpacking the VMDK")?;
            return Ok(path);
        }
    }
    bail!("{} has no VMDK", ova.display())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header
}

fn sha256_of(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    io::copy(&mut file, &mut hash).with_context(|| format!("hashing {}", path.display()))?;
    Ok(hex(&hash.finalize()))
}

/// One `Item` of the virtual hardware: (element, value) in the order in which the schema wants them.
fn item(fields: &[(&str, &str)], config: &[(&str, &str)]) -> String {
    let mut text = "      <Item>\n".to_owned();
    for (element, value) in fields {
        text += &format!("        <rasd:{element}>{value}</rasd:{element}>\n");
    }
    for (key, value) in config {
        text += &format!(
            "        <vmw:Config ovf:required=\"false\" vmw:key=\"{key}\" vmw:value=\"{value}\"/>\n"
        );
    }
    text + "      </Item>\n"
}

/// CIM resource types (DSP0243, `rasd:ResourceType`): 3 processor, 4 memory, 6 SCSI, 10 Ethernet, 15 CD, 17 disk, 20 SATA, 24 display.
fn hardware(which: Sample) -> String {
    let cpu = [
        ("AllocationUnits", "hertz * 10^6"),
        ("Description", "Number of Virtual CPUs"),
        ("ElementName", "2 virtual CPU(s)"),
        ("InstanceID", "1"),
        ("ResourceType", "3"),
        ("VirtualQuantity", "2"),
    ];
    let memory = [
        ("AllocationUnits", "byte * 2^20"),
        ("Description", "Memory Size"),
        ("ElementName", "1024MB of memory"),
        ("InstanceID", "2"),
        ("ResourceType", "4"),
        ("VirtualQuantity", "1024"),
    ];
    let scsi = [
        ("Address", "0"),
        ("Description", "SCSI Controller"),
        ("ElementName", "SCSI controller 0"),
        ("InstanceID", "3"),
        ("ResourceSubType", "lsilogic"),
        ("ResourceType", "6"),
    ];
    let sata = [
        ("Address", "0"),
        ("Description", "SATA Controller"),
        ("ElementName", "SATA controller 0"),
        ("InstanceID", "4"),
        ("ResourceSubType", "vmware.sata.ahci"),
        ("ResourceType", "20"),
    ];
    let cdrom = [
        ("AddressOnParent", "0"),
        ("AutomaticAllocation", "false"),
        ("ElementName", "CD/DVD drive 1"),
        ("InstanceID", "5"),
        ("Parent", "4"),
        ("ResourceSubType", "vmware.cdrom.remotepassthrough"),
        ("ResourceType", "15"),
    ];
    let disk = [
        ("AddressOnParent", "0"),
        ("ElementName", "Hard disk 1"),
        ("HostResource", "ovf:/disk/vmdisk1"),
        ("InstanceID", "6"),
        ("Parent", "3"),
        ("ResourceType", "17"),
    ];
    let mut nic = which
        .mac()
        .map(|mac| ("Address", mac))
        .into_iter()
        .collect::<Vec<_>>();
    nic.extend([
        ("AddressOnParent", "7"),
        ("AutomaticAllocation", "true"),
        ("Connection", "VM Network"),
        (
            "Description",
            "VmxNet3 ethernet adapter on &quot;VM Network&quot;",
        ),
        ("ElementName", "Network adapter 1"),
        ("InstanceID", "7"),
        ("ResourceSubType", "VmxNet3"),
        ("ResourceType", "10"),
    ]);
    let video = [
        ("AutomaticAllocation", "false"),
        ("ElementName", "Video card"),
        ("InstanceID", "8"),
        ("ResourceType", "24"),
    ];
    [
        item(&cpu, &[]),
        item(&memory, &[]),
        item(&scsi, &[("slotInfo.pciSlotNumber", "16")]),
        item(&sata, &[]),
        item(&cdrom, &[]),
        item(&disk, &[("backing.writeThrough", "false")]),
        // PCI slot 192 is why the guest calls it ens192.
        item(
            &nic,
            &[
                ("slotInfo.pciSlotNumber", "192"),
                ("wakeOnLanEnabled", "true"),
            ],
        ),
        item(&video, &[("videoRamSizeInKB", "4096")]),
    ]
    .concat()
}

fn descriptor(which: Sample, vmdk_size: u64) -> String {
    let name = which.name();
    let firmware = if which == Sample::Uefi { "efi" } else { "bios" };
    let capacity = DISK_SECTORS * SECTOR;
    let vmdk = vmdk_name(which);
    let hardware = hardware(which);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope vmw:buildId="build-0" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:cim="http://schemas.dmtf.org/wbem/wscim/1/common" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="{vmdk}" ovf:id="file1" ovf:size="{vmdk_size}"/>
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
    <Network ovf:name="VM Network">
      <Description>The VM Network network</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest">
      <Info>The kind of installed guest operating system</Info>
      <Description>Debian GNU/Linux 12 (64-bit)</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType>
      </System>
{hardware}      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{firmware}"/>
      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="false"/>
      <vmw:Config ovf:required="false" vmw:key="cpuHotAddEnabled" vmw:value="true"/>
      <vmw:Config ovf:required="false" vmw:key="tools.syncTimeWithHost" vmw:value="false"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_states_the_variant() {
        let bios = descriptor(Sample::Bios, 7);
        assert!(bios.contains("vmw:value=\"bios\"") && !bios.contains("00:50:56"));
        let uefi = descriptor(Sample::Uefi, 7);
        assert!(
            uefi.contains("vmw:value=\"efi\"")
                && uefi.contains("<rasd:Address>00:50:56:9a:2c:02</rasd:Address>")
        );
        assert!(uefi.contains("ovf:size=\"7\"") && uefi.contains("ovf:capacity=\"6442450944\""));
    }
}
