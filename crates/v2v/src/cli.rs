//! The command line: virt-v2v's options with their meanings, as clap sees them after [`normalise`](crate::normalise).

use std::path::PathBuf;

use clap::Parser;

use crate::customise::CustomiseArgs;

/// Options of a conversion.
#[derive(Debug, Parser)]
#[command(
    name = "v2v",
    version,
    about = "Converts a guest of VMware, VirtualBox or Hyper-V, or a disk, to run on KVM",
    after_help = "Long options may be written with one dash, as in virt-v2v: -os DIR, -of qcow2.\n\
                  `v2v inspect --help`: what a conversion would do and meet, before anything is copied.\n\
                  `v2v image --help`: what else can be done with disk images, as qemu-img does it.\n\
                  `v2v serve --help`, `v2v token --help`, `v2v jobs --help`: physical machines.",
    override_usage = "v2v [-i MODE] [OPTIONS] SOURCE...",
    infer_long_args = true,
    args_override_self = false,
    disable_version_flag = true
)]
pub(crate) struct Cli {
    /// Source: a file, a folder, a domain, a URI, or disk files, as the mode has it
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<PathBuf>,

    /// Input mode: libvirt (the default), libvirtxml, ova, vmx, hyperv, vbox, or disk (also: local)
    #[arg(short = 'i', value_name = "MODE", help_heading = "Input")]
    pub(crate) input_mode: Option<String>,
    /// Format of the input disks instead of detecting it: raw, qcow2, vmdk, vhdx, vpc, vdi, …
    #[arg(long = "if", value_name = "FORMAT", help_heading = "Input")]
    pub(crate) input_format: Option<String>,
    /// Connection of the input: libvirt URI
    #[arg(long = "ic", value_name = "URI", help_heading = "Input")]
    pub(crate) input_connection: Option<String>,
    /// Input option, e.g. ssh=PROGRAM with -it ssh
    #[arg(long = "io", value_name = "OPTION[=VALUE]", help_heading = "Input")]
    pub(crate) input_options: Vec<String>,
    /// Input transport: ssh, with -i vmx
    #[arg(long = "it", value_name = "TRANSPORT", help_heading = "Input")]
    pub(crate) input_transport: Option<String>,
    /// File with the password of the input connection
    #[arg(long = "ip", value_name = "FILE", help_heading = "Input")]
    pub(crate) input_password: Option<PathBuf>,
    /// Which machine of a source that holds several
    #[arg(long = "vm", value_name = "NAME", help_heading = "Input")]
    pub(crate) vm: Option<String>,
    /// Images may name files anywhere below DIR, not only beside themselves
    #[arg(long = "base-dir", value_name = "DIR", help_heading = "Input")]
    pub(crate) base_dir: Option<PathBuf>,

    /// Output mode: libvirt (the default), local (also: disk), qemu, null
    #[arg(short = 'o', value_name = "MODE", help_heading = "Output")]
    pub(crate) output_mode: Option<String>,
    /// Format of the output disks: raw or qcow2; as the input's when left out
    #[arg(long = "of", value_name = "FORMAT", help_heading = "Output")]
    pub(crate) output_format: Option<String>,
    /// Allocation of the output disks: sparse (the default) or preallocated
    #[arg(long = "oa", value_name = "MODE", help_heading = "Output")]
    pub(crate) output_allocation: Option<String>,
    /// Connection of the output: libvirt URI
    #[arg(long = "oc", value_name = "URI", help_heading = "Output")]
    pub(crate) output_connection: Option<String>,
    /// Name of the converted guest instead of the source's
    #[arg(long = "on", value_name = "NAME", help_heading = "Output")]
    pub(crate) output_name: Option<String>,
    /// Output option: qemu-boot with -o qemu runs the script; nvram with -o local writes the
    /// firmware's boot menu into a file, for the UEFI firmware of this host
    #[arg(long = "oo", value_name = "OPTION[=VALUE]", help_heading = "Output")]
    pub(crate) output_options: Vec<String>,
    /// Where the disks go: a directory, or a libvirt pool with -o libvirt
    #[arg(long = "os", value_name = "STORAGE", help_heading = "Output")]
    pub(crate) output_storage: Option<String>,
    /// Replace files of an earlier conversion to the same name
    #[arg(long, help_heading = "Output")]
    pub(crate) overwrite: bool,

    /// Give the guest the SMBIOS UUID of the source (for licences); never run both
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_uuid: bool,
    /// Give the guest the SMBIOS strings of the source, too: vendor, product, serial numbers
    #[arg(long, help_heading = "Output")]
    pub(crate) keep_smbios: bool,

    /// Connect source bridge IN, or all NICs, to bridge OUT
    #[arg(
        short = 'b',
        long = "bridge",
        value_name = "[IN:]OUT",
        help_heading = "Network"
    )]
    pub(crate) bridges: Vec<String>,
    /// Connect source network IN, or all NICs, to network OUT
    #[arg(
        short = 'n',
        long = "network",
        value_name = "[IN:]OUT",
        help_heading = "Network"
    )]
    pub(crate) networks: Vec<String>,
    /// MAC:network:OUT, MAC:bridge:OUT, or MAC:ip:ADDR[,GW[,PREFIX[,NS...]]]
    #[arg(long = "mac", value_name = "RULE", help_heading = "Network")]
    pub(crate) macs: Vec<String>,

    /// Which system to convert: ask (the default), single, first, or a device
    #[arg(long, value_name = "CHOICE", help_heading = "Conversion")]
    pub(crate) root: Option<String>,
    /// Key of an encrypted volume: ID:key:PASSPHRASE or ID:file:FILE
    #[arg(long = "key", value_name = "SELECTOR", help_heading = "Conversion")]
    pub(crate) keys: Vec<String>,
    /// Do not discard unused blocks: all (the default), or a list of mount points
    #[arg(long, value_name = "MP,MP...", num_args = 0..=1, require_equals = true, default_missing_value = "all", help_heading = "Conversion")]
    pub(crate) no_fstrim: Option<String>,
    /// Write what was done to FILE, as JSON: steps, changes, warnings, devices
    #[arg(long, value_name = "FILE", help_heading = "Conversion")]
    pub(crate) report: Option<PathBuf>,
    /// Bus of the disks if the guest can drive it: virtio-blk (the default) or virtio-scsi
    #[arg(long, value_name = "DRIVER", help_heading = "Conversion")]
    pub(crate) block_driver: Option<String>,
    /// Change nothing in the guest; give it devices that every system drives (SATA, e1000e)
    #[arg(long, help_heading = "Conversion")]
    pub(crate) compat: bool,
    /// A guest that cannot be converted: refuse (the default), or copy as with --compat
    #[arg(long, value_name = "WHAT", help_heading = "Conversion")]
    pub(crate) on_unknown: Option<String>,
    /// Install this package of the QEMU guest agent (.deb or .rpm) at the guest's first boot
    #[arg(long, value_name = "FILE", help_heading = "Conversion")]
    pub(crate) qemu_ga: Option<PathBuf>,
    /// Folder or ISO with virtio drivers for Windows (default: $VIRTIO_WIN, /usr/share/virtio-win)
    #[arg(long, value_name = "PATH", help_heading = "Conversion")]
    pub(crate) virtio_win: Option<PathBuf>,
    /// Convert a hibernated Windows; what it had in memory is lost
    #[arg(long, help_heading = "Conversion")]
    pub(crate) force_hibernated: bool,
    /// --run and --run-command may run programs of the guest, in the appliance, without a network
    #[arg(long, help_heading = "Conversion")]
    pub(crate) allow_guest_code: bool,
    /// Memory of the appliance in MiB
    #[arg(long, value_name = "MIB", help_heading = "Conversion")]
    pub(crate) memsize: Option<u64>,
    /// Virtual CPUs of the appliance
    #[arg(long, value_name = "N", help_heading = "Conversion")]
    pub(crate) smp: Option<u32>,
    /// Disks copied at the same time
    #[arg(long, value_name = "N", help_heading = "Conversion")]
    pub(crate) parallel: Option<usize>,

    #[command(flatten)]
    pub(crate) customise: CustomiseArgs,

    /// Print what was understood of the source, and stop
    #[arg(long, help_heading = "Talk")]
    pub(crate) print_source: bool,
    /// With --print-source: as JSON
    #[arg(long, help_heading = "Talk")]
    pub(crate) json: bool,
    /// JSON events on stdout, or on stream:stderr, fd:N, file:NAME; alone: list capabilities
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "stream:stdout", help_heading = "Talk")]
    pub(crate) machine_readable: Option<String>,
    /// Only errors
    #[arg(short = 'q', long, help_heading = "Talk")]
    pub(crate) quiet: bool,
    /// Log what is decided, and the appliance's output
    #[arg(short = 'v', long, help_heading = "Talk")]
    pub(crate) verbose: bool,
    /// Log every command that is run
    #[arg(short = 'x', help_heading = "Talk")]
    pub(crate) trace: bool,
    /// Print version
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    pub(crate) version: Option<bool>,

    /// Accepted for virt-v2v's sake, does nothing
    #[arg(long, hide = true)]
    pub(crate) debug_gc: bool,
    /// Accepted for virt-v2v's sake: no colours are used
    #[arg(
        long,
        alias = "colours",
        alias = "color",
        alias = "colour",
        hide = true
    )]
    pub(crate) colors: bool,
    /// Accepted for virt-v2v's sake: messages are not wrapped
    #[arg(long, hide = true)]
    pub(crate) wrap: bool,
    /// Accepted for virt-v2v's sake: labels are always set
    #[arg(long, hide = true)]
    pub(crate) selinux_relabel: bool,
}
