//! Numbers that both ends of a session must agree on.

/// Protocol number of enrolment and sessions; raised with every change that an older end would misunderstand.
///
/// 1: first.
pub const P2V_PROTOCOL: u32 = 1;
/// Port of the converter server unless another is given.
pub const P2V_PORT: u16 = 7440;
/// Unit of hashing, verifying and resuming, in bytes.
pub const BLOCK_LEN: u32 = 64 << 10;
/// Most disk bytes in one chunk.
pub const MAX_CHUNK_LEN: u32 = 1 << 20;
/// Largest gRPC message of the services for agents, in bytes: a chunk that did not shrink, its hashes, its fields.
pub const MAX_MESSAGE_LEN: usize = (MAX_CHUNK_LEN as usize) + (64 << 10);
/// Most ranges in an `ExtentsReply`, chosen so that it fits in a message.
pub const MAX_EXTENTS: usize = 32 << 10;
/// Most ranges in a `ProofRequest`.
pub const MAX_PROOF_RANGES: usize = 16 << 10;
/// Seconds between two signs of life on a control stream; three missing ones mean that the other end is gone.
pub const KEEPALIVE_SECONDS: u64 = 10;
/// Metadata key with the session's hexadecimal id on a `Data` call.
pub const SESSION_METADATA: &str = "v2v-session";
/// Blocks in a chunk at most; the bit masks of a chunk have as many bits.
pub const MAX_CHUNK_BLOCKS: u32 = MAX_CHUNK_LEN / BLOCK_LEN;
