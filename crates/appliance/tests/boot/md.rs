//! Superblocks of md, version 1: kernel include/uapi/linux/raid/md_p.h, struct mdp_superblock_1.

/// What one says. Sizes and places are in sectors of 512 bytes; what is not said is zero.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Superblock<'n> {
    /// Every byte of the array's UUID.
    pub(crate) set: u8,
    /// The array is called `web01:NAME`.
    pub(crate) name: &'n str,
    pub(crate) level: u32,
    pub(crate) layout: u32,
    pub(crate) chunk: u32,
    /// Of a member that is used.
    pub(crate) size: u64,
    pub(crate) members: u16,
    /// Where data begin on a member.
    pub(crate) data_at: u64,
    /// Where this is on a member.
    pub(crate) at: u64,
    pub(crate) role: u16,
    /// Every byte of the member's UUID.
    pub(crate) device: u8,
}

impl Superblock<'_> {
    /// As it lies on the member: clean, all members in sync to the end.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut block = vec![0u8; 256 + (2 * usize::from(self.members)).next_multiple_of(4)];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1u32.to_le_bytes());
        put(16, &[self.set; 16]);
        put(32, format!("web01:{}", self.name).as_bytes());
        put(72, &self.level.to_le_bytes());
        put(76, &self.layout.to_le_bytes());
        put(80, &self.size.to_le_bytes());
        put(88, &self.chunk.to_le_bytes());
        put(92, &u32::from(self.members).to_le_bytes());
        put(128, &self.data_at.to_le_bytes());
        put(136, &self.size.to_le_bytes());
        put(144, &self.at.to_le_bytes());
        put(160, &u32::from(self.role).to_le_bytes());
        put(168, &[self.device; 16]);
        put(200, &10u64.to_le_bytes());
        // In sync to the end.
        put(208, &u64::MAX.to_le_bytes());
        put(220, &u32::from(self.members).to_le_bytes());
        for member in 0..self.members {
            put(256 + 2 * usize::from(member), &member.to_le_bytes());
        }
        let sum: u64 = crate::disks::words(&block).sum();
        let checksum = u32::try_from((sum & 0xffff_ffff) + (sum >> 32)).unwrap();
        block[216..220].copy_from_slice(&checksum.to_le_bytes());
        block
    }
}
