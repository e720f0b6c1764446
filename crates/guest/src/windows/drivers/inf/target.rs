//! TargetOSVersion decorations: `NT[arch][.[major][.[minor][.[product type][.[suite mask][.[build]]]]]]` (Microsoft
//! Learn, "INF Manufacturer Section" and "Combining Platform Extensions with Operating System Versions").

use types::{Arch, WindowsInfo};

/// A Windows that a driver may be for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    /// `x86`, `amd64`, `arm64`.
    pub(crate) arch: &'static str,
    /// Version and build of the system.
    pub(crate) major: u32,
    /// Minor version.
    pub(crate) minor: u32,
    /// Build.
    pub(crate) build: u32,
    /// It is a server.
    pub(crate) server: bool,
}

impl Platform {
    /// Of a guest; `None` for processors that no driver is made for.
    pub(crate) fn of(windows: &WindowsInfo, arch: Arch) -> Option<Self> {
        let arch = match arch {
            Arch::X86_64 => "amd64",
            Arch::I686 => "x86",
            Arch::Aarch64 => "arm64",
            _ => return None,
        };
        Some(Self {
            arch,
            major: windows.major,
            minor: windows.minor,
            build: windows.build,
            server: !windows.product_type.eq_ignore_ascii_case("WinNT"),
        })
    }

    /// Major and minor version.
    pub(crate) fn version(&self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// VER_NT_WORKSTATION; 2 is a domain controller and 3 a server.
const WORKSTATION: u32 = 1;

/// A parsed decoration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Lower case; `None` where it names no processor.
    pub(crate) arch: Option<String>,
    /// Major and minor version from which on it is for.
    pub(crate) version: Option<(u32, u32)>,
    product_type: Option<u32>,
    suite_mask: u32,
    /// Lowest build of just that version.
    pub(crate) build: u32,
}

impl Target {
    /// Reads a decoration; `None` when it is none, as `NT.Services`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        let mut parts = text.strip_prefix("nt")?.split('.');
        let arch = parts.next().filter(|arch| !arch.is_empty());
        if arch.is_some_and(|arch| !["x86", "amd64", "arm64", "arm", "ia64"].contains(&arch)) {
            return None;
        }
        let mut number = || match parts.next() {
            None | Some("") => Some(None),
            Some(part) => number(part).map(Some),
        };
        let (major, minor) = (number()?, number()?);
        let (product_type, suite_mask, build) = (number()?, number()?, number()?);
        parts.next().is_none().then(|| Self {
            arch: arch.map(str::to_owned),
            version: major.map(|major| (major, minor.unwrap_or(0))),
            product_type: product_type.filter(|&of| of != 0),
            suite_mask: suite_mask.unwrap_or(0),
            build: build.unwrap_or(0),
        })
    }

    /// Whether Windows takes a section with this decoration on that platform.
    pub(crate) fn fits(&self, platform: Platform) -> bool {
        // Without a processor it is for x86 (from Windows Server 2003 SP1 on).
        let arch = self.arch.as_deref().unwrap_or("x86");
        let product = match self.product_type {
            None => true,
            Some(WORKSTATION) => !platform.server,
            Some(_) => platform.server,
        };
        let version = self.version.unwrap_or((0, 0));
        // The build counts for just its own version: a newer system is newer than every build of an older one.
        let built = version != platform.version() || self.build <= platform.build;
        // A suite that we do not know of is not ours.
        arch == platform.arch
            && product
            && self.suite_mask == 0
            && version <= platform.version()
            && built
    }

    /// The same, for this processor where it names none.
    pub(crate) fn or_arch(mut self, arch: &str) -> Self {
        self.arch.get_or_insert_with(|| arch.to_owned());
        self
    }

    /// It names no version, product or build.
    pub(crate) fn is_plain(&self) -> bool {
        let arch = self.arch.clone();
        *self
            == Self {
                arch,
                ..Self::default()
            }
    }

    /// Of two that fit, Windows takes the greater: the newer version first, then the more special one.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (
            self.version.unwrap_or((0, 0)),
            self.build,
            self.product_type.is_some(),
            self.arch.is_some(),
        )
    }
}

/// Decimal, or hexadecimal with 0x.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
