//! Builds the program that a converted Windows runs at its first boot, from appliance/windows with Debian's mingw-w64.
//!
//! Same sources and compiler give the same bytes: no time stamps, no build id, no symbols.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cmd;

/// For which Windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowsArch {
    /// 32-bit Windows, and ARM64, which runs it as well.
    X86,
    /// 64-bit Windows.
    Amd64,
}

impl WindowsArch {
    /// Both.
    pub const ALL: [Self; 2] = [Self::X86, Self::Amd64];

    /// Name of the program's file.
    pub fn file(self) -> &'static str {
        match self {
            Self::X86 => "v2v-firstboot-x86.exe",
            Self::Amd64 => "v2v-firstboot-amd64.exe",
        }
    }

    /// Name of the compiler.
    pub fn compiler(self) -> &'static str {
        match self {
            Self::X86 => "i686-w64-mingw32-gcc",
            Self::Amd64 => "x86_64-w64-mingw32-gcc",
        }
    }

    /// The entry point as the linker calls it: C names have an underscore on x86.
    fn entry(self) -> &'static str {
        match self {
            Self::X86 => "-Wl,-e,_v2v_start",
            Self::Amd64 => "-Wl,-e,v2v_start",
        }
    }
}

/// No C run-time library: the program has its own entry point, memset and memcpy.
const FLAGS: &[&str] = &[
    "-std=c11",
    "-municode",
    "-Os",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Werror",
    "-ffreestanding",
    "-fno-ident",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fno-stack-protector",
    "-fno-tree-loop-distribute-patterns",
    "-nostdlib",
    "-nostartfiles",
    "-static",
    "-s",
    "-Wl,--gc-sections,--no-insert-timestamp,--build-id=none,--dynamicbase,--nxcompat",
    // Windows XP.
    "-Wl,--subsystem,console:5.1",
];

const LIBRARIES: &[&str] = &["-liphlpapi", "-ladvapi32", "-lkernel32", "-lgcc"];

/// Compiles it into `dir`; gives the program's path.
pub fn build(arch: WindowsArch, dir: &Path) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let out = dir.join(arch.file());
    let args = FLAGS
        .iter()
        .copied()
        .chain([arch.entry(), "-o"])
        .map(OsString::from)
        .chain([out.clone().into_os_string()])
        .chain(sources()?)
        .chain(LIBRARIES.iter().map(OsString::from));
    let mut command = Command::new(arch.compiler());
    command.args(args).current_dir(folder());
    cmd::output(&mut command).with_context(|| {
        format!(
            "building {} (Debian packages: gcc-mingw-w64-i686-win32, gcc-mingw-w64-x86-64-win32)",
            arch.file()
        )
    })?;
    Ok(out)
}

fn folder() -> PathBuf {
    crate::repo().join("appliance/windows")
}

/// Names of the C files, in order.
fn sources() -> Result<Vec<OsString>> {
    let folder = folder();
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
        let name = entry?.file_name();
        if Path::new(&name).extension().is_some_and(|end| end == "c") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
