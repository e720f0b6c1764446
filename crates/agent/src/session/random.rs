//! Random bytes of the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

use super::SessionError;

/// Random bytes; waits until the kernel has enough of a seed, which a machine that just booted may lack for seconds.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], SessionError> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(SessionError::Internal(format!(
                    "the kernel gives no random bytes: {error}"
                )));
            }
        }
    }
    Ok(bytes)
}
