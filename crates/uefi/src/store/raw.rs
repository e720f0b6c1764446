//! The headers as they lie in the flash.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, LE, U16, U32, U64};

/// The front of a firmware volume: EFI_FIRMWARE_VOLUME_HEADER (PI 1.8, volume 3, 3.2.1). Its map of blocks follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct RawVolume {
    pub(super) zero: [u8; 16],
    pub(super) file_system: [u8; 16],
    /// Of the volume, this header included.
    pub(super) len: U64<LE>,
    pub(super) signature: [u8; 4],
    pub(super) attributes: U32<LE>,
    /// With the map of blocks.
    pub(super) header_len: U16<LE>,
    /// Makes the sum of the header's 16-bit words zero.
    pub(super) checksum: U16<LE>,
    pub(super) ext_header: U16<LE>,
    pub(super) reserved: u8,
    pub(super) revision: u8,
}

const _: () = assert!(size_of::<RawVolume>() == 0x38);

/// The map of a volume whose blocks are all of one size, and the entry that ends it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct RawBlockMap {
    pub(super) blocks: U32<LE>,
    pub(super) block_len: U32<LE>,
    pub(super) end: [u8; 8],
}

const _: () = assert!(size_of::<RawBlockMap>() == 0x10);

/// The front of a variable store: VARIABLE_STORE_HEADER (EDK2, MdeModulePkg/Include/Guid/VariableFormat.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct RawStore {
    pub(super) guid: [u8; 16],
    /// Of the store, this header included.
    pub(super) size: U32<LE>,
    pub(super) format: u8,
    pub(super) state: u8,
    pub(super) reserved: [u8; 6],
}

const _: () = assert!(size_of::<RawStore>() == 0x1c);

/// The front of a variable: AUTHENTICATED_VARIABLE_HEADER (the same file). Name and data follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct RawVariable {
    pub(super) start: U16<LE>,
    pub(super) state: u8,
    pub(super) reserved: u8,
    pub(super) attributes: U32<LE>,
    pub(super) monotonic_count: U64<LE>,
    pub(super) time: [u8; 16],
    pub(super) key_index: U32<LE>,
    pub(super) name_len: U32<LE>,
    pub(super) data_len: U32<LE>,
    pub(super) vendor: [u8; 16],
}

const _: () = assert!(size_of::<RawVariable>() == 0x3c);

/// The front of the area in which a write is noted before it is done:
/// EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER (EDK2, MdeModulePkg/Include/Guid/SystemNvDataGuid.h).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(super) struct RawWorking {
    pub(super) signature: [u8; 16],
    /// CRC-32 of this header with this field and the state erased.
    pub(super) crc: U32<LE>,
    pub(super) state: [u8; 4],
    pub(super) queue_len: U64<LE>,
}

const _: () = assert!(size_of::<RawWorking>() == 0x20);

/// The value at the front of `bytes`.
pub(super) fn front<T: FromBytes + KnownLayout + Immutable>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}
