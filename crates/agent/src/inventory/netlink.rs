//! Permanent hardware addresses and IP addresses of interfaces, asked of the kernel by rtnetlink (rtnetlink(7)): no
//! file shows them.

use std::net::IpAddr;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv,
    sendto, socket_with, sockopt,
};

/// Types of messages and attributes (include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h).
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP.
const FLAGS: u16 = 0x1 | 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Lengths of nlmsghdr, ifinfomsg, ifaddrmsg.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDR_HEADER: usize = 8;
/// One datagram of a dump: the kernel fills up to 32 KiB.
const MAX_DATAGRAM: usize = 64 << 10;
/// Datagrams of one answer at most: thousands of interfaces.
const MAX_DATAGRAMS: usize = 4096;

/// What the kernel says of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    index: u32,
    /// Kernel name.
    pub(crate) name: String,
    /// Permanent Ethernet address.
    pub(crate) permanent: Option<String>,
    /// With prefix length.
    pub(crate) addresses: Vec<String>,
}

/// All interfaces; none where the kernel does not answer.
pub(crate) fn links() -> Vec<LinkFacts> {
    let mut all = Vec::new();
    for datagram in dump(RTM_GETLINK).unwrap_or_default() {
        each_message(&datagram, |kind, body| {
            all.extend((kind == RTM_NEWLINK).then(|| link(body)).flatten());
        });
    }
    for datagram in dump(RTM_GETADDR).unwrap_or_default() {
        each_message(&datagram, |kind, body| {
            if let Some((index, text)) = (kind == RTM_NEWADDR).then(|| address(body)).flatten()
                && let Some(link) = all.iter_mut().find(|link| link.index == index)
            {
                link.addresses.push(text);
            }
        });
    }
    all
}

/// Asks for all of a kind; the datagrams of the answer.
fn dump(kind: u16) -> rustix::io::Result<Vec<Vec<u8>>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(
        &socket,
        sockopt::Timeout::Recv,
        Some(Duration::from_secs(2)),
    )?;
    // nlmsghdr: length, type, flags, sequence, port; then a zeroed ifinfomsg, which begins as ifaddrmsg does.
    let len = HEADER + LINK_HEADER;
    let mut request = vec![0u8; len];
    request[0..4].copy_from_slice(&u32::try_from(len).unwrap_or_default().to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    sendto(
        &socket,
        &request,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let mut datagrams = Vec::new();
    while datagrams.len() < MAX_DATAGRAMS {
        let mut buf = vec![0u8; MAX_DATAGRAM];
        let (len, _) = recv(&socket, &mut *buf, RecvFlags::empty())?;
        buf.truncate(len);
        let mut is_last = len == 0;
        each_message(&buf, |kind, _| {
            is_last |= matches!(kind, NLMSG_DONE | NLMSG_ERROR);
        });
        datagrams.push(buf);
        if is_last {
            break;
        }
    }
    Ok(datagrams)
}

fn number<const N: usize>(data: &[u8], offset: usize) -> Option<[u8; N]> {
    data.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// Lengths are padded to four bytes.
fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

fn each_message(mut data: &[u8], mut with: impl FnMut(u16, &[u8])) {
    while let (Some(len), Some(kind)) = (
        number(data, 0).map(u32::from_ne_bytes),
        number(data, 4).map(u16::from_ne_bytes),
    ) {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(body) = data.get(HEADER..len) else {
            return;
        };
        with(kind, body);
        data = data.get(align(len)..).unwrap_or_default();
    }
}

/// rtattr: length with its header, type, value.
fn each_attribute(mut data: &[u8], mut with: impl FnMut(u16, &[u8])) {
    while let (Some(len), Some(kind)) = (
        number(data, 0).map(u16::from_ne_bytes),
        number(data, 2).map(u16::from_ne_bytes),
    ) {
        let len = usize::from(len);
        let Some(value) = data.get(4..len) else {
            return;
        };
        with(kind, value);
        data = data.get(align(len)..).unwrap_or_default();
    }
}

fn link(body: &[u8]) -> Option<LinkFacts> {
    let mut link = LinkFacts {
        index: u32::from_ne_bytes(number(body, 4)?),
        ..LinkFacts::default()
    };
    each_attribute(body.get(LINK_HEADER..)?, |kind, value| match kind {
        IFLA_IFNAME => {
            let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
            link.name = String::from_utf8_lossy(&value[..end]).into_owned();
        }
        IFLA_PERM_ADDRESS => {
            link.permanent = value
                .try_into()
                .ok()
                .map(|mac| types::MacAddr(mac).to_string());
        }
        _ => {}
    });
    Some(link)
}

/// Index of the interface, address with prefix length.
fn address(body: &[u8]) -> Option<(u32, String)> {
    let (prefix_len, index) = (*body.get(1)?, u32::from_ne_bytes(number(body, 4)?));
    let (mut local, mut peer) = (None, None);
    each_attribute(body.get(ADDR_HEADER..)?, |kind, value| match kind {
        IFA_LOCAL => local = ip(value),
        IFA_ADDRESS => peer = ip(value),
        _ => {}
    });
    // On a point-to-point link IFA_ADDRESS is the other end's.
    let ip = local.or(peer)?;
    Some((index, format!("{ip}/{prefix_len}")))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(number::<4>(bytes, 0)?)),
        16 => Some(IpAddr::from(number::<16>(bytes, 0)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_lists_its_loopback_with_its_address() {
        let links = links();
        let lo = links.iter().find(|link| link.name == "lo");
        let lo = lo.expect("an interface lo");
        assert!(
            lo.addresses.contains(&"127.0.0.1/8".to_owned()),
            "{links:?}"
        );
    }

    #[test]
    fn cut_and_lying_messages_end_the_walk() {
        let mut message = vec![0u8; 64];
        message[0..4].copy_from_slice(&64u32.to_ne_bytes());
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        message[32..34].copy_from_slice(&9u16.to_ne_bytes());
        message[34..36].copy_from_slice(&IFLA_IFNAME.to_ne_bytes());
        message[36..41].copy_from_slice(b"eth0\0");
        for len in 0..=u8::MAX {
            for at in [0usize, 32, 44] {
                let mut bad = message.clone();
                bad[at] = len;
                each_message(&bad, |_, body| drop((link(body), address(body))));
            }
        }
        for cut in 0..message.len() {
            each_message(&message[..cut], |_, body| drop((link(body), address(body))));
        }
        each_message(&message, |_, body| {
            assert_eq!(link(body).unwrap().name, "eth0")
        });
    }
}
