//! What belongs to which hypervisor's tools. Names of services are those that their installers register (their .inf and
//! .msi files; services.msc on machines that have them).

/// One vendor's tools.
#[derive(Debug)]
pub(super) struct Product {
    /// As in `WindowsProgram::kind`.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) name: &'static str,
    /// Services and drivers; a final `*` stands for any end.
    pub(super) services: &'static [&'static str],
    /// Parts of an ImagePath that only its own services have, lower case.
    pub(super) directories: &'static [&'static str],
    /// Services that are kept where this one exists: the guest is itself a host of virtual machines.
    pub(super) host: Option<(&'static str, &'static [&'static str])>,
}

/// All that are known. Controllers' drivers (pvscsi, LSI, storvsc) are left: without their device they do nothing.
pub(super) const PRODUCTS: &[Product] = &[
    Product {
        kind: "vmware",
        name: "VMware Tools",
        services: &[
            "VMTools",
            "VMUpgradeHelper",
            "VMware Physical Disk Helper Service",
            "VGAuthService",
            "vmvss",
            "VMwareCAFCommAmqpListener",
            "VMwareCAFManagementAgentHost",
            "TPAutoConnSvc",
            "TPVCGateway",
            "vm3dservice",
            "VMMEMCTL",
            "vmci",
            "vsock",
            "vmhgfs",
            "vmrawdsk",
            "vmdebug",
            "vmmouse",
            "vmusbmouse",
            "vmaudio",
            "vmx_svga",
            "vm3dmp",
            "vm3dmp_loader",
            "vm3dmp-debug",
            "vm3dmp-stats",
            // NSX introspection and AppDefense: filters of the network and of files.
            "vnetWFP",
            "vnetflt",
            "vsepflt",
            "giappdef",
            "glxgi",
        ],
        directories: &["\\vmware\\vmware tools\\"],
        // VMware Workstation brings these two as well.
        host: Some(("vmx86", &["vmci", "vsock"])),
    },
    Product {
        kind: "virtualbox",
        name: "VirtualBox Guest Additions",
        services: &[
            "VBoxService",
            "VBoxGuest",
            "VBoxMouse",
            "VBoxSF",
            "VBoxVideo",
            "VBoxVideoW8",
            "VBoxVideoWddm",
            "VBoxWddm",
        ],
        directories: &["\\virtualbox guest additions\\"],
        host: None,
    },
    Product {
        kind: "xen",
        name: "Xen PV drivers",
        services: &[
            "xenbus",
            "xenbus_monitor",
            "xenfilt",
            "xenvbd",
            "xencrsh",
            "xendisk",
            "xenvif",
            "xennet",
            "xeniface",
            "xenagent",
            "xensvc",
            "xenvkbd",
            "xenhid",
            "xencons",
            "xencons_monitor",
            // GPL PV.
            "xenpci",
            "xenhide",
            "xenscsi",
            "ShutdownMon",
            // Red Hat Enterprise Linux 5's, also of old Amazon images.
            "rhelscsi",
            "rhelnet",
            "rhelfltr",
            "AWSLiteAgent",
        ],
        directories: &[
            "\\citrix\\xentools\\",
            "\\xenserver\\xentools\\",
            "\\xcp-ng\\xentools\\",
        ],
        host: None,
    },
    Product {
        kind: "parallels",
        name: "Parallels or Virtuozzo tools",
        services: &[
            "prl_*",
            "Parallels Tools Service",
            "Parallels Coherence Service",
        ],
        directories: &[
            "\\parallels\\parallels tools\\",
            "\\virtuozzo guest tools\\",
        ],
        host: None,
    },
    Product {
        kind: "nutanix",
        name: "Nutanix Guest Tools",
        services: &[],
        directories: &["\\nutanix\\"],
        host: None,
    },
];

/// Filters that are taken out of lists even where their service is gone already: Windows does not start a device of
/// which it cannot load a filter.
pub(super) const FILTERS: &[&str] = &[
    "vmmouse",
    "vmusbmouse",
    "vboxmouse",
    "xenfilt",
    "xenhide",
    "rhelfltr",
    "prl_strg",
    "prl_mouf",
];

/// Agents of clouds: they wait for a host that is not there, and nobody but their owner knows whether they are wanted.
pub(super) const AGENTS: &[(&str, &str)] = &[
    ("WindowsAzureGuestAgent", "Azure's guest agent"),
    ("RdAgent", "Azure's guest agent"),
    ("AmazonSSMAgent", "Amazon's SSM agent"),
    ("Ec2Config", "Amazon's EC2Config"),
    ("Amazon EC2Launch", "Amazon's EC2Launch"),
    ("GCEAgent", "Google's guest agent"),
    ("google_osconfig_agent", "Google's OS Config agent"),
];

impl Product {
    /// True when this service is one of its.
    pub(super) fn owns(&self, service: &str, image: &str) -> bool {
        let image = image.to_lowercase();
        self.services.iter().any(|known| matches(known, service))
            || self.directories.iter().any(|part| image.contains(part))
    }
}

fn matches(known: &str, service: &str) -> bool {
    match known.strip_suffix('*') {
        Some(stem) => {
            let start = service.get(..stem.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(stem))
        }
        None => known.eq_ignore_ascii_case(service),
    }
}
