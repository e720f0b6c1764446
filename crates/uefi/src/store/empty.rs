//! The flash of OVMF before its first start: what OVMF_VARS.fd is made of (EDK2, OvmfPkg/Include/Fdf/VarStore.fdf.inc).
//!
//! ```text
//!            2M        4M
//! volume     0x20000   0x84000   header of 0x48 bytes, then the store of variables
//! variables  0x0e000   0x40000   the header included
//! event log  0x01000   0x01000   erased
//! working    0x01000   0x01000   its own header, then erased
//! spare      0x10000   0x42000   erased
//! ```

use types::Guid;
use zerocopy::IntoBytes;

use super::raw::{RawBlockMap, RawStore, RawVolume, RawWorking};
use super::{STORE_FORMATTED, STORE_GUID, STORE_HEALTHY, VOLUME_SIGNATURE, sum};

/// EFI_SYSTEM_NV_DATA_FV_GUID.
const NV_DATA_GUID: [u8; 16] = Guid::of(0xfff12b8d_7696_4c8b_a985_2747075b4f50).0;
/// EDKII_WORKING_BLOCK_SIGNATURE_GUID.
const WORKING_GUID: [u8; 16] = Guid::of(0x9e58292b_7c68_497d_a0ce_6500fd9f1b95).0;
/// CRC-32 of the working area's header, whose other fields never change.
const WORKING_CRC: u32 = 0x642c_af2c;
/// Its first bit says that it is valid: in flash, zero is what was written.
const WORKING_VALID: [u8; 4] = [0xfe, 0xff, 0xff, 0xff];
/// EFI_FVB_ATTRIBUTES_2 of the volume: readable, writable, erased to ones, … (PI 1.8, volume 3, 3.2.1).
const VOLUME_ATTRIBUTES: u32 = 0x0004_feff;
/// EFI_FVH_REVISION.
const VOLUME_REVISION: u8 = 2;
/// A block of the flash, in bytes.
const BLOCK_LEN: u32 = 0x1000;
/// The event log, in bytes.
const EVENT_LOG_LEN: u32 = 0x1000;
/// The working area, in bytes.
const WORKING_LEN: u32 = 0x1000;

/// How a flash is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// OVMF's build of 4 MiB: OVMF_VARS_4M.fd.
    Ovmf4M,
    /// OVMF's build of 2 MiB: OVMF_VARS.fd.
    Ovmf2M,
}

impl Layout {
    fn blocks(self) -> u32 {
        match self {
            Self::Ovmf4M => 0x84,
            Self::Ovmf2M => 0x20,
        }
    }

    /// Of the variables, the volume's header included.
    fn variables_len(self) -> u32 {
        match self {
            Self::Ovmf4M => 0x40000,
            Self::Ovmf2M => 0x0e000,
        }
    }
}

/// The whole flash.
pub(super) fn flash(layout: Layout) -> Vec<u8> {
    let len = layout.blocks() * BLOCK_LEN;
    let header_len = size_of::<RawVolume>() + size_of::<RawBlockMap>();
    let mut volume = RawVolume {
        zero: [0; 16],
        file_system: NV_DATA_GUID,
        len: u64::from(len).into(),
        signature: *VOLUME_SIGNATURE,
        attributes: VOLUME_ATTRIBUTES.into(),
        header_len: u16::try_from(header_len).unwrap_or_default().into(),
        checksum: 0.into(),
        ext_header: 0.into(),
        reserved: 0,
        revision: VOLUME_REVISION,
    };
    let map = RawBlockMap {
        blocks: layout.blocks().into(),
        block_len: BLOCK_LEN.into(),
        end: [0; 8],
    };
    let words = sum(volume.as_bytes()).wrapping_add(sum(map.as_bytes()));
    volume.checksum = words.wrapping_neg().into();
    let store_len = layout.variables_len() - u32::try_from(header_len).unwrap_or_default();
    let store = RawStore {
        guid: STORE_GUID,
        size: store_len.into(),
        format: STORE_FORMATTED,
        state: STORE_HEALTHY,
        reserved: [0; 6],
    };
    let working = RawWorking {
        signature: WORKING_GUID,
        crc: WORKING_CRC.into(),
        state: WORKING_VALID,
        queue_len: u64::from(WORKING_LEN - 0x20).into(),
    };
    let size = |len: u32| usize::try_from(len).unwrap_or_default();
    let mut bytes = [volume.as_bytes(), map.as_bytes(), store.as_bytes()].concat();
    bytes.resize(size(layout.variables_len() + EVENT_LOG_LEN), 0xff);
    bytes.extend(working.as_bytes());
    bytes.resize(size(len), 0xff);
    bytes
}
