//! A phony machine: its tree, its registry, its boot volume, its disks.

use std::path::{Path, PathBuf};

use registry::{Hive, Value};
use tempfile::TempDir;
use types::{
    ConvertOptions, ConvertOutcome, GuestInfo, MacAddr, Mountpoint, Nic, NicNetwork, StorageMap,
};

use super::bcd;
use super::storage::{self, PARTITION, SIGNATURE};
use super::version::Version;
use crate::tests::pe;
use crate::tests::tree::put_at;
use crate::windows::hives::Which;
use crate::{BootVolume, Lent, Payload, Result, Root};

/// Setup class of network adapters.
pub(crate) const NET_CLASS: &str = "{4D36E972-E325-11CE-BFC1-08002BE10318}";
/// NetCfgInstanceId of the first adapter: its address was set by hand.
pub(crate) const FIXED: &str = "{6AAFC9A9-0542-4DB2-8760-CCFFA953737C}";
/// Of the second: DHCP.
pub(crate) const DYNAMIC: &str = "{698E50A9-4F58-4D86-B61D-F42E58DCACF6}";

/// A phony guest. `save` writes what was set.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) version: Version,
    dir: TempDir,
    boot: Option<TempDir>,
    pub(crate) system: Hive,
    pub(crate) software: Hive,
    pub(crate) storage: StorageMap,
}

/// The phony guest of this release, saved: `xp`, `2k3`, `vista`, `7-x86`, `7-x64`, `2k8r2`, `8.1`, `2k12r2`, `10`, `11`,
/// `11-arm64`, `2k16`, `2k19`, `2k22`, `2k25`.
pub(crate) fn machine(name: &str) -> Machine {
    let version = Version::named(name);
    let storage = storage::map(&version);
    let mut machine = Machine {
        dir: tempfile::tempdir().unwrap(),
        boot: (storage.devices.len() > 2).then(|| tempfile::tempdir().unwrap()),
        system: Hive::create("SYSTEM"),
        software: Hive::create("SOFTWARE"),
        storage,
        version,
    };
    machine.write_software();
    machine.write_system();
    machine.write_files();
    machine.write_boot();
    machine.save();
    machine
}

impl Machine {
    /// Where its volume is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where its boot volume is, if it has one.
    pub(crate) fn boot_path(&self) -> Option<&Path> {
        self.boot.as_ref().map(TempDir::path)
    }

    /// A file of its volume.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        put_at(self.dir.path(), path, content);
    }

    /// A file of its boot volume.
    pub(crate) fn put_boot(&self, path: &str, content: &[u8]) {
        put_at(self.boot_path().unwrap(), path, content);
    }

    /// Its root.
    pub(crate) fn root(&self) -> Root {
        Root::open(self.dir.path()).unwrap()
    }

    /// Its boot volume.
    pub(crate) fn boot_volume(&self) -> Option<BootVolume> {
        self.boot.as_ref().map(|dir| BootVolume {
            device: "/dev/sda1".to_owned(),
            root: Root::open(dir.path()).unwrap(),
        })
    }

    /// Name of the device of Windows.
    pub(crate) fn device(&self) -> String {
        self.storage.devices.last().unwrap().name.clone()
    }

    /// Sets a value; paths as the hive has them.
    pub(crate) fn set(&mut self, which: Which, path: &str, name: &str, value: &Value) {
        let hive = match which {
            Which::System => &mut self.system,
            Which::Software => &mut self.software,
        };
        hive.set(path, name, value).unwrap();
    }

    /// Sets a value in each control set.
    pub(crate) fn control(&mut self, path: &str, name: &str, value: &Value) {
        for set in ["ControlSet001", "ControlSet002"] {
            self.set(Which::System, &format!("{set}\\{path}"), name, value);
        }
    }

    /// Writes the hives.
    pub(crate) fn save(&self) {
        for (name, hive) in [("SYSTEM", &self.system), ("SOFTWARE", &self.software)] {
            hive.verify().unwrap();
            let path = format!("{}/System32/config/{name}", self.version.folder());
            self.put(&path, &hive.to_bytes(133_000_000_000_000_000));
        }
    }

    /// Reads a hive back from the tree.
    pub(crate) fn read(&self, which: Which) -> Hive {
        let path = format!("{}/System32/config/{}", self.version.folder(), which.name());
        Hive::open(std::fs::read(self.dir.path().join(path)).unwrap()).unwrap()
    }

    /// Where its volume is mounted.
    pub(crate) fn mountpoints(&self) -> Vec<Mountpoint> {
        vec![Mountpoint {
            device: self.device(),
            path: "/".to_owned(),
            fs_type: "ntfs".to_owned(),
        }]
    }

    /// What inspection says.
    pub(crate) fn try_inspect(&self) -> Result<GuestInfo> {
        let boot: Vec<BootVolume> = self.boot_volume().into_iter().collect();
        crate::inspect_with(&self.root(), &self.storage, &self.mountpoints(), &boot)
    }

    /// What inspection says, without an error.
    pub(crate) fn inspect(&self) -> GuestInfo {
        self.try_inspect()
            .unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Options with one NIC.
    pub(crate) fn options() -> ConvertOptions {
        ConvertOptions {
            nics: vec![Nic {
                mac: Some(MacAddr([0, 0x50, 0x56, 0x95, 0x08, 0xbb])),
                model: None,
                network: NicNetwork::Network("default".to_owned()),
                source_network: "VM Network".to_owned(),
                guest_name: None,
            }],
            ..ConvertOptions::default()
        }
    }

    /// Converts it.
    pub(crate) fn try_convert(
        &self,
        options: &ConvertOptions,
        payload: Payload,
        programs: Option<PathBuf>,
    ) -> Result<ConvertOutcome> {
        let guest = self.try_inspect()?;
        let boot = self.boot_volume();
        let lent = Lent {
            payload,
            programs: programs.as_deref(),
            boot: boot.as_ref(),
            ..Lent::default()
        };
        let root = self.root();
        crate::convert_with(&root, &guest, &self.storage, options, &lent, &mut |_| {})
    }

    fn write_software(&mut self) {
        let version = self.version;
        let key = "Microsoft\\Windows NT\\CurrentVersion";
        let written = match (version.major, version.minor) {
            (10, _) => "6.3".to_owned(),
            (major, minor) => format!("{major}.{minor}"),
        };
        let root = format!("C:\\{}", version.folder());
        let build = version.build.to_string();
        let mut texts = vec![
            ("ProductName", version.product),
            ("CurrentVersion", written.as_str()),
            ("CurrentBuildNumber", build.as_str()),
            ("CurrentBuild", build.as_str()),
            ("SystemRoot", root.as_str()),
            ("PathName", root.as_str()),
            ("EditionID", version.edition),
            ("InstallationType", version.installation),
            ("ProductId", "00000-00000-00000-AA000"),
        ];
        texts.extend(version.release);
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            self.set(Which::Software, key, name, &Value::text(text));
        }
        if version.major >= 10 {
            for (name, number) in [
                ("CurrentMajorVersionNumber", 10),
                ("CurrentMinorVersionNumber", 0),
                ("UBR", version.revision),
            ] {
                self.set(Which::Software, key, name, &Value::dword(number));
            }
        }
        let current = "Microsoft\\Windows\\CurrentVersion";
        let path = if version.is_nt6() {
            "%SystemRoot%\\inf"
        } else {
            "%SystemRoot%\\inf;C:\\Drivers"
        };
        self.set(Which::Software, current, "DevicePath", &Value::expand(path));
        self.set(
            Which::Software,
            current,
            "ProgramFilesDir",
            &Value::text("C:\\Program Files"),
        );
        let once = format!("{current}\\RunOnce");
        self.software.create_key(&once).unwrap();
        self.software
            .create_key("Policies\\Microsoft\\Windows")
            .unwrap();
        let tools = format!("{current}\\Uninstall\\{{5E7F4E5B-2C5C-4BFE-A2A1-6A0E5E6F4D1C}}");
        if version.adapter.1 != "netvsc" {
            for (name, text) in [
                ("DisplayName", "VMware Tools"),
                (
                    "UninstallString",
                    "MsiExec.exe /I{5E7F4E5B-2C5C-4BFE-A2A1-6A0E5E6F4D1C}",
                ),
            ] {
                self.set(Which::Software, &tools, name, &Value::text(text));
            }
            self.set(
                Which::Software,
                &tools,
                "WindowsInstaller",
                &Value::dword(1),
            );
        }
    }

    fn write_system(&mut self) {
        for (name, number) in [
            ("Current", 1),
            ("Default", 1),
            ("Failed", 0),
            ("LastKnownGood", 2),
        ] {
            self.set(Which::System, "Select", name, &Value::dword(number));
        }
        self.set(
            Which::System,
            "Setup",
            "SystemSetupInProgress",
            &Value::dword(0),
        );
        self.set(Which::System, "Setup", "SetupType", &Value::dword(0));
        self.set(Which::System, "Setup", "CmdLine", &Value::text(""));
        let place = if self.version.uefi {
            [b"DMIO:ID:".as_slice(), &bcd::guid_bytes(PARTITION)].concat()
        } else {
            [
                SIGNATURE.to_le_bytes().as_slice(),
                &0x650_0000u64.to_le_bytes(),
            ]
            .concat()
        };
        self.set(
            Which::System,
            "MountedDevices",
            "\\DosDevices\\C:",
            &Value::binary(place),
        );
        let version = self.version;
        let expand = |text: &str| Value::expand(text);
        for (key, name, value) in [
            (
                "Control\\ComputerName\\ComputerName",
                "ComputerName",
                Value::text("PHONY"),
            ),
            (
                "Services\\Tcpip\\Parameters",
                "Hostname",
                Value::text("phony"),
            ),
            (
                "Services\\Tcpip\\Parameters",
                "NV Hostname",
                Value::text("phony"),
            ),
            ("Services\\Tcpip\\Parameters", "Domain", Value::text("")),
            (
                "Control\\ProductOptions",
                "ProductType",
                Value::text(version.product_type),
            ),
            (
                "Control\\Session Manager\\Environment",
                "PROCESSOR_ARCHITECTURE",
                Value::text(version.processor()),
            ),
            (
                "Control\\Session Manager\\Memory Management",
                "PagingFiles",
                Value::multi(&["?:\\pagefile.sys"]),
            ),
            ("Control\\CrashControl", "AutoReboot", Value::dword(1)),
            ("Control\\TimeZoneInformation", "Bias", Value::dword(0)),
            (
                "Control",
                "SystemStartOptions",
                Value::text(" NOEXECUTE=OPTIN"),
            ),
            ("Control", "WaitToKillServiceTimeout", Value::text("20000")),
            (
                "Control\\ServiceGroupOrder",
                "List",
                Value::multi(&["System Reserved", "Boot Bus Extender", "SCSI miniport"]),
            ),
            (
                "Services\\Disk",
                "ImagePath",
                expand("System32\\drivers\\disk.sys"),
            ),
        ] {
            self.control(key, name, &value);
        }
        if version.has_driver_database() {
            self.control(
                "Control\\Session Manager\\Power",
                "HiberbootEnabled",
                &Value::dword(1),
            );
        }
        self.write_storage_services();
        self.write_adapters();
        if version.has_driver_database() {
            self.write_driver_database();
        } else {
            self.write_critical_devices();
        }
    }

    fn write_storage_services(&mut self) {
        let ahci = if self.version.has_driver_database() {
            "storahci"
        } else {
            "msahci"
        };
        let mut services = vec![
            ("atapi", "SCSI Miniport", 0),
            ("intelide", "System Bus Extender", 0),
            ("pci", "Boot Bus Extender", 0),
            ("partmgr", "Boot Bus Extender", 0),
            ("volmgr", "System Bus Extender", 0),
            ("LSI_SAS", "SCSI miniport", 0),
            ("Disk", "", 0),
        ];
        if self.version.is_nt6() {
            services.push((ahci, "SCSI Miniport", 0));
        }
        for (service, group, start) in services {
            let key = format!("Services\\{service}");
            let image = format!("System32\\drivers\\{}.sys", service.to_lowercase());
            for (name, value) in [
                ("Type", Value::dword(1)),
                ("Start", Value::dword(start)),
                ("ErrorControl", Value::dword(3)),
                ("ImagePath", Value::expand(&image)),
            ] {
                self.control(&key, name, &value);
            }
            if !group.is_empty() {
                self.control(&key, "Group", &Value::text(group));
            }
            self.put(
                &format!(
                    "{}/System32/drivers/{}.sys",
                    self.version.folder(),
                    service.to_lowercase()
                ),
                b"MZ",
            );
        }
        for (class, name, filters) in [
            (
                "{4D36E967-E325-11CE-BFC1-08002BE10318}",
                "UpperFilters",
                &["PartMgr"][..],
            ),
            (
                "{71A27CDD-812A-11D0-BEC7-08002BE2092F}",
                "LowerFilters",
                &["fvevol", "rdyboost"],
            ),
        ] {
            let key = format!("Control\\Class\\{class}");
            self.control(&key, "Class", &Value::text("Phony"));
            if self.version.is_nt6() {
                self.control(&key, name, &Value::multi(filters));
            }
        }
        let key = "Control\\Class\\{4D36E97B-E325-11CE-BFC1-08002BE10318}";
        self.control(key, "Class", &Value::text("SCSIAdapter"));
    }

    fn write_adapters(&mut self) {
        let (device, service) = self.version.adapter;
        let second = "PCI\\VEN_8086&DEV_100F&SUBSYS_075015AD&REV_01\\4&B70F118&0&1888";
        self.write_adapter(0, FIXED, "Ethernet0", device, service);
        self.write_adapter(1, DYNAMIC, "Ethernet1", second, "E1G60");
        let ip = format!("Services\\Tcpip\\Parameters\\Interfaces\\{FIXED}");
        for (name, value) in [
            ("EnableDHCP", Value::dword(0)),
            ("IPAddress", Value::multi(&["192.0.2.10", "192.0.2.11"])),
            (
                "SubnetMask",
                Value::multi(&["255.255.255.0", "255.255.255.128"]),
            ),
            ("DefaultGateway", Value::multi(&["192.0.2.1"])),
            ("DefaultGatewayMetric", Value::multi(&["5"])),
            ("NameServer", Value::text("192.0.2.53,198.51.100.53")),
            ("Domain", Value::text("example.com")),
            ("InterfaceMetric", Value::dword(10)),
        ] {
            self.control(&ip, name, &value);
        }
        let ip = format!("Services\\Tcpip\\Parameters\\Interfaces\\{DYNAMIC}");
        self.control(&ip, "EnableDHCP", &Value::dword(1));
        self.control(&ip, "IPAddress", &Value::multi(&["0.0.0.0"]));
        self.control(&ip, "SubnetMask", &Value::multi(&["0.0.0.0"]));
        if self.version.is_nt6() {
            let nsi = "Control\\Nsi\\{eb004a01-9b1a-11d4-9123-0050047759bc}";
            let mut data = vec![0xff; 48];
            data[16] = 64;
            let name = "000000060000060020010db8000000000000000000000005";
            self.control(&format!("{nsi}\\10"), name, &Value::binary(data));
            let route = format!(
                "{}{}fe800000000000000000000000000001",
                "00".repeat(48),
                "0000000600000600".repeat(2)
            );
            self.control(
                &format!("{nsi}\\16"),
                &route,
                &Value::binary(vec![0xff; 32]),
            );
            let ip6 = format!("Services\\Tcpip6\\Parameters\\Interfaces\\{FIXED}");
            self.control(&ip6, "NameServer", &Value::text("2001:db8::53"));
        }
        // A tunnel that every Windows has.
        let key = format!("Control\\Class\\{NET_CLASS}\\0002");
        self.control(
            &key,
            "NetCfgInstanceId",
            &Value::text("{1F33E174-BDB2-4E33-8210-1C50E8053698}"),
        );
        self.control(&key, "Characteristics", &Value::dword(9));
        self.control(
            &key,
            "DeviceInstanceID",
            &Value::text("ROOT\\*TEREDO\\0000"),
        );
    }

    fn write_adapter(&mut self, number: u32, id: &str, name: &str, device: &str, service: &str) {
        let driver = format!("{NET_CLASS}\\{number:04}");
        let key = format!("Control\\Class\\{driver}");
        self.control(&key, "NetCfgInstanceId", &Value::text(id));
        self.control(&key, "Characteristics", &Value::dword(0x84));
        self.control(&key, "DriverDesc", &Value::text("Phony Adapter"));
        if self.version.is_nt6() {
            self.control(&key, "DeviceInstanceID", &Value::text(device));
            self.control(&key, "*IfType", &Value::dword(6));
            self.control(&key, "NetLuidIndex", &Value::dword(6 + number));
        }
        let key = format!("Control\\Network\\{NET_CLASS}\\{id}\\Connection");
        self.control(&key, "Name", &Value::text(name));
        self.control(&key, "PnpInstanceID", &Value::text(device));
        let key = format!("Enum\\{device}");
        self.control(&key, "ClassGUID", &Value::text(NET_CLASS));
        self.control(&key, "Driver", &Value::text(&driver));
        self.control(&key, "Service", &Value::text(service));
        self.control(&key, "ConfigFlags", &Value::dword(0));
        let key = format!("Services\\Tcpip\\Parameters\\Adapters\\{id}");
        let config = format!("Tcpip\\Parameters\\Interfaces\\{id}");
        self.control(&key, "IpConfig", &Value::multi(&[config]));
    }

    /// Before Windows 8.
    fn write_critical_devices(&mut self) {
        for (id, service) in [
            ("pci#cc_0101", "atapi"),
            ("pci#ven_1000&dev_0054", "LSI_SAS"),
        ] {
            let key = format!("Control\\CriticalDeviceDatabase\\{id}");
            let class = Value::text("{4D36E97B-E325-11CE-BFC1-08002BE10318}");
            self.control(&key, "ClassGUID", &class);
            self.control(&key, "Service", &Value::text(service));
        }
    }

    /// From Windows 8 on, with the package of the IDE and AHCI controllers.
    fn write_driver_database(&mut self) {
        let version = self.version;
        let processor = version.processor().to_lowercase();
        let architecture = match version.arch {
            types::Arch::I686 => 0u32,
            types::Arch::Aarch64 => 12,
            _ => 9,
        };
        let number = version.major << 24 | version.minor << 16;
        let package = format!("mshdc.inf_{processor}_64aa4354da84c2df");
        let packages = format!("DriverDatabase\\DriverPackages\\{package}");
        let mut ver = vec![0xff, 0xff];
        ver.extend(architecture.to_le_bytes());
        ver.extend([0, 0]);
        ver.extend(bcd::guid_bytes("{4d36e96a-e325-11ce-bfc1-08002be10318}"));
        ver.extend(127_953_216_000_000_000u64.to_le_bytes());
        for part in [16384u16, 9600, 3, 6] {
            ver.extend(part.to_le_bytes());
        }
        ver.extend([0; 8]);
        let infs = "DriverDatabase\\DriverInfFiles\\mshdc.inf";
        let atapi = format!("{packages}\\Configurations\\atapi_Inst");
        let ahci = format!("{packages}\\Configurations\\msahci_Inst");
        let flag = Value::binary([1, 0xff, 0, 0]);
        for (key, name, value) in [
            ("DriverDatabase", "Version", Value::dword(number)),
            ("DriverDatabase", "Architecture", Value::dword(architecture)),
            ("DriverDatabase", "OemInfMap", Value::binary([0xe0])),
            (
                "DriverDatabase\\DeviceIds\\PCI\\CC_0101",
                "mshdc.inf",
                flag.clone(),
            ),
            (
                "DriverDatabase\\DeviceIds\\PCI\\CC_010601",
                "mshdc.inf",
                flag,
            ),
            (infs, "", Value::multi(&[&package])),
            (infs, "Active", Value::text(&package)),
            (
                infs,
                "Configurations",
                Value::multi(&["atapi_Inst", "msahci_Inst"]),
            ),
            (&packages, "", Value::text("mshdc.inf")),
            (&packages, "Provider", Value::text("Microsoft")),
            (&packages, "SignerScore", Value::dword(0x0d00_0003)),
            (&packages, "StatusFlags", Value::dword(0x16)),
            (&packages, "Version", Value::binary(ver)),
            (&atapi, "ConfigFlags", Value::dword(0)),
            (&atapi, "Service", Value::text("atapi")),
            (&ahci, "ConfigFlags", Value::dword(0)),
            (&ahci, "Service", Value::text("storahci")),
        ] {
            self.set(Which::System, key, name, &value);
        }
    }

    fn write_files(&self) {
        let folder = self.version.folder();
        let mut kernel = pe::program(&[(".text", b"\xc3")]);
        kernel[0x44..0x46].copy_from_slice(&self.version.machine_type().to_le_bytes());
        self.put(&format!("{folder}/System32/ntoskrnl.exe"), &kernel);
        for (path, content) in [
            ("explorer.exe", &kernel[..]),
            ("System32/cmd.exe", &kernel),
            ("inf/mshdc.inf", b"; phony"),
            ("System32/drivers/etc/hosts", b"# phony\r\n"),
            ("Temp/phony.txt", b""),
        ] {
            self.put(&format!("{folder}/{path}"), content);
        }
        self.put("pagefile.sys", &[0; 4096]);
        // It was shut down, and it woke up last time.
        self.put("hiberfil.sys", b"wake");
        self.put("Program Files/phony.txt", b"");
        if self.version.is_nt6() {
            self.put("Users/Public/phony.txt", b"");
            self.put("ProgramData/phony.txt", b"");
        } else {
            self.put("Documents and Settings/All Users/phony.txt", b"");
        }
    }

    fn write_boot(&self) {
        let version = self.version;
        if !version.is_nt6() {
            let ini = "[boot loader]\r\ntimeout=30\r\ndefault=multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n";
            self.put("ntldr", b"phony");
            self.put("NTDETECT.COM", b"phony");
            self.put("boot.ini", ini.as_bytes());
            return;
        }
        let device = if version.uefi {
            bcd::gpt_device(PARTITION)
        } else {
            bcd::mbr_device(0x650_0000, SIGNATURE)
        };
        let store = bcd::store(&[(version.product, "\\Windows", device)]);
        if version.uefi {
            self.put_boot("EFI/Microsoft/Boot/bootmgfw.efi", b"MZ phony boot manager");
            self.put_boot("EFI/Microsoft/Boot/BCD", &store);
        } else if self.boot.is_some() {
            self.put_boot("bootmgr", b"phony");
            self.put_boot("Boot/BCD", &store);
        } else {
            self.put("bootmgr", b"phony");
            self.put("Boot/BCD", &store);
        }
    }
}
