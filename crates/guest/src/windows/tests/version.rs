//! The releases of which there are phony guests.

use types::Arch;

/// One release.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    /// `xp`, `7-x64`, `2k19`, …
    pub(crate) name: &'static str,
    pub(crate) product: &'static str,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) build: u32,
    pub(crate) revision: u32,
    pub(crate) edition: &'static str,
    /// `WinNT` or `ServerNT`.
    pub(crate) product_type: &'static str,
    /// `Client`, `Server`, `Server Core`; empty before Vista.
    pub(crate) installation: &'static str,
    /// Name and value of what says the release.
    pub(crate) release: Option<(&'static str, &'static str)>,
    pub(crate) arch: Arch,
    /// It starts by UEFI.
    pub(crate) uefi: bool,
    /// Setup class of the adapter's hardware: device, service.
    pub(crate) adapter: (&'static str, &'static str),
}

const E1000: (&str, &str) = (
    "PCI\\VEN_8086&DEV_100F&SUBSYS_075015AD&REV_01\\4&B70F118&0&0888",
    "E1G60",
);
const VMXNET3: (&str, &str) = (
    "PCI\\VEN_15AD&DEV_07B0&SUBSYS_07B015AD&REV_01\\FF565000BB0895FE00",
    "vmxnet3ndis6",
);
const NETVSC: (&str, &str) = (
    "VMBUS\\{f8615163-df3e-46c5-913f-f2d2f965ed0e}\\{0a1b2c3d-0000-1111-2222-333344445555}",
    "netvsc",
);

const fn client(
    name: &'static str,
    product: &'static str,
    version: (u32, u32, u32, u32),
) -> Version {
    Version {
        name,
        product,
        major: version.0,
        minor: version.1,
        build: version.2,
        revision: version.3,
        edition: "Professional",
        product_type: "WinNT",
        installation: "Client",
        release: None,
        arch: Arch::X86_64,
        uefi: version.0 >= 10,
        adapter: VMXNET3,
    }
}

const fn server(
    name: &'static str,
    product: &'static str,
    version: (u32, u32, u32, u32),
) -> Version {
    Version {
        edition: "ServerStandard",
        product_type: "ServerNT",
        installation: "Server",
        ..client(name, product, version)
    }
}

/// All of them.
pub(crate) const VERSIONS: [Version; 15] = [
    Version {
        arch: Arch::I686,
        edition: "",
        installation: "",
        adapter: E1000,
        release: Some(("CSDVersion", "Service Pack 3")),
        ..client("xp", "Microsoft Windows XP", (5, 1, 2600, 0))
    },
    Version {
        arch: Arch::I686,
        edition: "",
        installation: "",
        adapter: E1000,
        release: Some(("CSDVersion", "Service Pack 2")),
        ..server("2k3", "Microsoft Windows Server 2003", (5, 2, 3790, 0))
    },
    Version {
        arch: Arch::I686,
        edition: "Business",
        adapter: E1000,
        release: Some(("CSDVersion", "Service Pack 2")),
        ..client("vista", "Windows Vista (TM) Business", (6, 0, 6002, 0))
    },
    Version {
        arch: Arch::I686,
        adapter: E1000,
        release: Some(("CSDVersion", "Service Pack 1")),
        ..client("7-x86", "Windows 7 Professional", (6, 1, 7601, 0))
    },
    Version {
        release: Some(("CSDVersion", "Service Pack 1")),
        ..client("7-x64", "Windows 7 Professional", (6, 1, 7601, 0))
    },
    Version {
        release: Some(("CSDVersion", "Service Pack 1")),
        ..server("2k8r2", "Windows Server 2008 R2 Standard", (6, 1, 7601, 0))
    },
    Version {
        edition: "Professional",
        ..client("8.1", "Windows 8.1 Pro", (6, 3, 9600, 0))
    },
    Version {
        adapter: NETVSC,
        ..server("2k12r2", "Windows Server 2012 R2 Standard", (6, 3, 9600, 0))
    },
    Version {
        release: Some(("DisplayVersion", "22H2")),
        ..client("10", "Windows 10 Pro", (10, 0, 19045, 3803))
    },
    Version {
        release: Some(("DisplayVersion", "23H2")),
        ..client("11", "Windows 10 Pro", (10, 0, 22631, 3007))
    },
    Version {
        arch: Arch::Aarch64,
        release: Some(("DisplayVersion", "24H2")),
        ..client("11-arm64", "Windows 10 Pro", (10, 0, 26100, 1742))
    },
    Version {
        adapter: NETVSC,
        release: Some(("ReleaseId", "1607")),
        ..server("2k16", "Windows Server 2016 Standard", (10, 0, 14393, 6614))
    },
    Version {
        release: Some(("ReleaseId", "1809")),
        ..server("2k19", "Windows Server 2019 Standard", (10, 0, 17763, 5329))
    },
    Version {
        installation: "Server Core",
        release: Some(("DisplayVersion", "21H2")),
        ..server("2k22", "Windows Server 2022 Standard", (10, 0, 20348, 2227))
    },
    Version {
        release: Some(("DisplayVersion", "24H2")),
        ..server("2k25", "Windows Server 2025 Standard", (10, 0, 26100, 1742))
    },
];

impl Version {
    /// By its name.
    pub(crate) fn named(name: &str) -> Self {
        let version = VERSIONS.iter().find(|version| version.name == name);
        *version.unwrap_or_else(|| panic!("there is no phony Windows {name}"))
    }

    /// Vista or newer.
    pub(crate) fn is_nt6(&self) -> bool {
        self.major >= 6
    }

    /// It has a DriverDatabase: Windows 8 or newer.
    pub(crate) fn has_driver_database(&self) -> bool {
        (self.major, self.minor) >= (6, 2)
    }

    /// PROCESSOR_ARCHITECTURE; `x86`, `amd64`, `arm64` in lower case are what packages are called by.
    pub(crate) fn processor(&self) -> &'static str {
        match self.arch {
            Arch::I686 => "x86",
            Arch::Aarch64 => "ARM64",
            _ => "AMD64",
        }
    }

    /// Machine type in a program's header.
    pub(crate) fn machine_type(&self) -> u16 {
        match self.arch {
            Arch::I686 => 0x14c,
            Arch::Aarch64 => 0xaa64,
            _ => 0x8664,
        }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &'static str {
        if self.is_nt6() { "Windows" } else { "WINDOWS" }
    }
}
