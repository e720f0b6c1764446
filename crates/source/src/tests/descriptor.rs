//! Writes small descriptors in VMware's shape.

/// A descriptor to be written.
#[derive(Clone, Debug)]
pub(crate) struct Ovf<'a> {
    /// Items of the hardware section.
    pub(crate) items: Vec<String>,
    /// Number of disks: `disk0` of `file0`, `disk0.vmdk`, and so on, 4 MiB each.
    pub(crate) disks: u32,
    /// VirtualSystemType.
    pub(crate) system_type: &'a str,
    /// vmw:Config elements.
    pub(crate) config: &'a str,
    /// Sections of the envelope.
    pub(crate) extra_sections: &'a str,
}

impl Ovf<'_> {
    /// A machine with something of everything.
    pub(crate) fn vmware() -> Self {
        let cpu = item(&[
            ("InstanceID", "1"),
            ("ResourceType", "3"),
            ("VirtualQuantity", "4"),
        ]);
        let cpu = cpu.replace(
            "</Item>",
            "<vmw:CoresPerSocket ovf:required=\"false\">2</vmw:CoresPerSocket></Item>",
        );
        let nic = |instance, network, model, address: Option<&'static str>| {
            let mut fields = vec![
                ("InstanceID", instance),
                ("ResourceType", "10"),
                ("Connection", network),
                ("ResourceSubType", model),
            ];
            fields.extend(address.map(|address| ("Address", address)));
            item(&fields)
        };
        let items = vec![
            cpu,
            item(&[
                ("InstanceID", "2"),
                ("ResourceType", "4"),
                ("VirtualQuantity", "2048"),
                ("AllocationUnits", "byte * 2^20"),
            ]),
            item(&[
                ("InstanceID", "3"),
                ("ResourceType", "6"),
                ("Address", "0"),
                ("ResourceSubType", "VirtualSCSI"),
            ]),
            item(&[("InstanceID", "4"), ("ResourceType", "5"), ("Address", "0")]),
            disk_item(0, 3, Some(0)),
            disk_item(1, 3, Some(1)),
            item(&[
                ("InstanceID", "20"),
                ("ResourceType", "15"),
                ("Parent", "4"),
                ("AddressOnParent", "1"),
            ]),
            item(&[
                ("InstanceID", "21"),
                ("ResourceType", "14"),
                ("AddressOnParent", "0"),
            ]),
            nic("30", "VM Network", "VmxNet3", Some("00:50:56:ab:cd:ef")),
            nic("31", "back end", "E1000e", None),
            item(&[("InstanceID", "40"), ("ResourceType", "24")]),
            item(&[
                ("InstanceID", "41"),
                ("ResourceType", "35"),
                ("ResourceSubType", "vmware.soundcard.hdaudio"),
            ]),
            item(&[
                ("InstanceID", "42"),
                ("ResourceType", "1"),
                ("ResourceSubType", "vmware.vtpm"),
            ]),
        ];
        let config = r#"<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
<vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>
<vmw:ExtraConfig ovf:required="false" vmw:key="uuid.bios" vmw:value="56 4D 01 02 03 04 05 06-07 08 09 0a 0b 0c 0d 0e"/>"#;
        Self {
            items,
            disks: 2,
            system_type: "vmx-13",
            config,
            extra_sections: "",
        }
    }

    /// The XML.
    pub(crate) fn text(&self) -> String {
        let files: String = (0..self.disks)
            .map(|n| format!("<File ovf:id=\"file{n}\" ovf:href=\"disk{n}.vmdk\"/>\n"))
            .collect();
        let disks: String = (0..self.disks)
            .map(|n| format!("<Disk ovf:diskId=\"disk{n}\" ovf:fileRef=\"file{n}\" ovf:capacity=\"4194304\"/>\n"))
            .collect();
        let Self {
            system_type,
            config,
            extra_sections,
            ..
        } = self;
        let items = self.items.join("\n");
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf">
<References>
{files}</References>
<DiskSection><Info>Disks</Info>
{disks}</DiskSection>
{extra_sections}
<VirtualSystem ovf:id="vm-1">
<Info>A machine</Info>
<Name>web server</Name>
<OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"><Info>OS</Info></OperatingSystemSection>
<VirtualHardwareSection>
<Info>Hardware</Info>
<System><vssd:InstanceID>0</vssd:InstanceID><vssd:VirtualSystemType>{system_type}</vssd:VirtualSystemType></System>
{items}
{config}
</VirtualHardwareSection>
</VirtualSystem>
</Envelope>
"#
        )
    }
}

/// An item with these rasd fields.
pub(crate) fn item(fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<rasd:{name}>{value}</rasd:{name}>"))
        .collect();
    format!("<Item>{fields}</Item>")
}

/// The item of disk `number`, whose instance is 10 more.
pub(crate) fn disk_item(number: u32, parent: u32, address: Option<u32>) -> String {
    let (instance, parent) = ((10 + number).to_string(), parent.to_string());
    let resource = format!("ovf:/disk/disk{number}");
    let name = format!("Hard disk {}", number + 1);
    let address = address.map(|address| address.to_string());
    let mut fields = vec![
        ("ElementName", name.as_str()),
        ("HostResource", &resource),
        ("InstanceID", &instance),
        ("Parent", &parent),
        ("ResourceType", "17"),
    ];
    fields.extend(
        address
            .as_deref()
            .map(|address| ("AddressOnParent", address)),
    );
    item(&fields)
}

/// A controller of this ResourceType; empty fields are left out.
pub(crate) fn controller(instance: u32, kind: u32, address: &str, sub_type: &str) -> String {
    let (instance, kind) = (instance.to_string(), kind.to_string());
    let fields = [
        ("InstanceID", instance.as_str()),
        ("ResourceType", &kind),
        ("Address", address),
        ("ResourceSubType", sub_type),
    ];
    item(
        &fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect::<Vec<_>>(),
    )
}
