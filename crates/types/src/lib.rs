//! The words that every crate of v2v shares: the machine as its source describes it, the guest as
//! inspection finds it, what conversion made of it. Plain data, no I/O, all of it serialisable.
//!
//! Sizes are bytes in `u64` unless the name says otherwise.

mod cancel;
mod caps;
mod customise;
pub mod glob;
mod guest;
mod guid;
mod hex;
mod mac;
mod machine;
mod report;
mod storage;

pub use cancel::CancelToken;
pub use caps::{
    BlockBus, BootEntry, ConvertOptions, ConvertOutcome, GuestCaps, MachineType, NetBus, StaticIp,
};
pub use customise::{Customise, Password};
pub use guest::{
    Arch, BootLoader, GuestInfo, KernelInfo, Mountpoint, NetworkConfig, OsType, WindowsAdapter,
    WindowsInfo, WindowsProgram,
};
pub use guid::{Guid, GuidParseError};
pub use mac::{MacAddr, MacParseError};
pub use machine::{
    Clock, CpuModel, CpuTopology, Details, Disk, DiskBus, Display, Firmware, Hypervisor, Listen,
    Machine, Nic, NicModel, NicNetwork, Removable, RemovableKind, SectorSizes, Smbios,
};
pub use report::{Change, Concern, Severity, Space, StepOutcome, StepReport};
pub use storage::{BlockDevice, DeviceKind, StorageMap, disk_letters};
