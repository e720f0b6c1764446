//! The numbers of the NBD protocol. Sections named here are those of `doc/proto.md` of the NBD project. All
//! integers travel in network byte order.

/// "Newstyle negotiation": ASCII `NBDMAGIC`, the server's first word.
pub(super) const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// "Newstyle negotiation": ASCII `IHAVEOPT`, the server's second word and the head of every option.
pub(super) const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// "Fixed newstyle negotiation": head of every reply to an option.
pub(super) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// "Request message".
pub(super) const REQUEST_MAGIC: u32 = 0x2560_9513;
/// "Simple reply message".
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// "Structured reply chunk message".
pub(super) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// "Newstyle negotiation": zeroes behind the answer to `NBD_OPT_EXPORT_NAME` for clients that want them.
pub(super) const EXPORT_NAME_PADDING: usize = 124;
/// "Conventions": no string is longer.
pub(super) const MAX_STRING: usize = 4096;
/// Length of a request without its payload: "Request message".
pub(super) const REQUEST_LEN: usize = 28;

/// "Handshake flags" and, with the same bits, "Client flags".
pub(super) mod handshake_flag {
    pub(in crate::nbd) const FIXED_NEWSTYLE: u16 = 1 << 0;
    pub(in crate::nbd) const NO_ZEROES: u16 = 1 << 1;
}

/// "Transmission flags".
pub(super) mod transmission_flag {
    pub(in crate::nbd) const HAS_FLAGS: u16 = 1 << 0;
    pub(in crate::nbd) const SEND_FLUSH: u16 = 1 << 2;
    pub(in crate::nbd) const SEND_FUA: u16 = 1 << 3;
    pub(in crate::nbd) const SEND_TRIM: u16 = 1 << 5;
    pub(in crate::nbd) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(in crate::nbd) const SEND_DF: u16 = 1 << 7;
    pub(in crate::nbd) const CAN_MULTI_CONN: u16 = 1 << 8;
    pub(in crate::nbd) const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// "Option types".
pub(super) mod option {
    pub(in crate::nbd) const EXPORT_NAME: u32 = 1;
    pub(in crate::nbd) const ABORT: u32 = 2;
    pub(in crate::nbd) const LIST: u32 = 3;
    pub(in crate::nbd) const INFO: u32 = 6;
    pub(in crate::nbd) const GO: u32 = 7;
    pub(in crate::nbd) const STRUCTURED_REPLY: u32 = 8;
    pub(in crate::nbd) const LIST_META_CONTEXT: u32 = 9;
    pub(in crate::nbd) const SET_META_CONTEXT: u32 = 10;
}

/// "Option reply types".
pub(super) mod option_reply {
    pub(in crate::nbd) const ACK: u32 = 1;
    pub(in crate::nbd) const SERVER: u32 = 2;
    pub(in crate::nbd) const INFO: u32 = 3;
    pub(in crate::nbd) const META_CONTEXT: u32 = 4;
    pub(in crate::nbd) const ERR_UNSUP: u32 = (1 << 31) + 1;
    pub(in crate::nbd) const ERR_INVALID: u32 = (1 << 31) + 3;
    pub(in crate::nbd) const ERR_UNKNOWN: u32 = (1 << 31) + 6;
    pub(in crate::nbd) const ERR_TOO_BIG: u32 = (1 << 31) + 9;
}

/// "Option reply types", `NBD_REP_INFO`.
pub(super) mod info {
    pub(in crate::nbd) const EXPORT: u16 = 0;
    pub(in crate::nbd) const BLOCK_SIZE: u16 = 3;
}

/// "Metadata contexts".
pub(super) mod context {
    pub(in crate::nbd) const NAMESPACE: &[u8] = b"base:";
    pub(in crate::nbd) const ALLOCATION: &[u8] = b"base:allocation";
    /// The id that we give `base:allocation`.
    pub(in crate::nbd) const ALLOCATION_ID: u32 = 1;
    pub(in crate::nbd) const STATE_HOLE: u32 = 1 << 0;
    pub(in crate::nbd) const STATE_ZERO: u32 = 1 << 1;
}

/// "Request types".
pub(super) mod command {
    pub(in crate::nbd) const READ: u16 = 0;
    pub(in crate::nbd) const WRITE: u16 = 1;
    pub(in crate::nbd) const DISC: u16 = 2;
    pub(in crate::nbd) const FLUSH: u16 = 3;
    pub(in crate::nbd) const TRIM: u16 = 4;
    pub(in crate::nbd) const WRITE_ZEROES: u16 = 6;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 7;
}

/// "Command flags".
pub(super) mod command_flag {
    pub(in crate::nbd) const FUA: u16 = 1 << 0;
    pub(in crate::nbd) const NO_HOLE: u16 = 1 << 1;
    pub(in crate::nbd) const DF: u16 = 1 << 2;
    pub(in crate::nbd) const REQ_ONE: u16 = 1 << 3;
    pub(in crate::nbd) const FAST_ZERO: u16 = 1 << 4;
}

/// "Structured reply flags": the last chunk of a reply.
pub(super) const REPLY_FLAG_DONE: u16 = 1 << 0;

/// "Structured reply types".
pub(super) mod chunk {
    pub(in crate::nbd) const NONE: u16 = 0;
    pub(in crate::nbd) const OFFSET_DATA: u16 = 1;
    pub(in crate::nbd) const OFFSET_HOLE: u16 = 2;
    pub(in crate::nbd) const BLOCK_STATUS: u16 = 5;
    pub(in crate::nbd) const ERROR: u16 = (1 << 15) + 1;
}

/// "Error values".
pub(super) mod errno {
    pub(in crate::nbd) const EIO: u32 = 5;
    pub(in crate::nbd) const EINVAL: u32 = 22;
    pub(in crate::nbd) const ENOSPC: u32 = 28;
}

/// "Size constraints": a multiple of the smallest sector of any disk; requests that keep to it never split a sector.
pub(super) const MIN_BLOCK: u32 = 512;
/// "Size constraints": the page of the guest.
pub(super) const PREFERRED_BLOCK: u32 = 4096;
/// "Size constraints": the largest payload of a read or a write, the one that every client expects.
pub(super) const MAX_BLOCK: u32 = 32 << 20;
