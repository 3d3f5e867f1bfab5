//! Whose the other end of a connection on loopback is: the kernel's tables of TCP sockets name the uid that each was made
//! by.

use procfs::net::{TcpNetEntry, tcp, tcp6};
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// One line of such a table.
struct Socket {
    end: SocketAddr,
    peer: SocketAddr,
    uid: u32,
    /// 0 when nobody holds it any more; it is listed as root's then.
    inode: u64,
}

impl From<TcpNetEntry> for Socket {
    fn from(entry: TcpNetEntry) -> Self {
        let TcpNetEntry { local_address, remote_address, uid, inode, .. } = entry;
        Self { end: plain(local_address), peer: plain(remote_address), uid, inode }
    }
}

/// Whether it was made by this process's own uid. Not when that cannot be said.
pub fn is_own(stream: &TcpStream) -> bool {
    let (Ok(ours), Ok(theirs)) = (stream.local_addr(), stream.peer_addr()) else { return false };
    let find = |table: Vec<TcpNetEntry>| owner(table.into_iter().map(Socket::from), theirs, ours);
    // A socket of version 6 that was connected to an address of version 4 stands in the other table.
    let uid = tcp().ok().and_then(find).or_else(|| tcp6().ok().and_then(find));
    uid == Some(nix::unistd::geteuid().as_raw())
}

/// The uid of the socket whose own end is `end` and whose peer is `peer`.
fn owner(mut table: impl Iterator<Item = Socket>, end: SocketAddr, peer: SocketAddr) -> Option<u32> {
    let socket = table.find(|socket| socket.end == end && socket.peer == peer)?;
    (socket.inode != 0).then_some(socket.uid)
}

fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => SocketAddr::new(mapped.into(), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_both_its_ends_and_has_an_owner_while_it_is_held() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let socket = |end, peer, uid, inode| Socket { end: at(end), peer: at(peer), uid, inode };
        let table = || [socket(9, 1, 5, 1), socket(1, 9, 0, 2), socket(2, 9, 6, 3), socket(3, 9, 0, 0)].into_iter();
        assert_eq!(owner(table(), at(1), at(9)), Some(0));
        assert_eq!(owner(table(), at(2), at(9)), Some(6));
        assert_eq!(owner(table(), at(3), at(9)), None, "held by nobody");
        assert_eq!(owner(table(), at(4), at(9)), None);
        assert_eq!(plain("[::ffff:127.0.0.1]:7".parse().unwrap()), at(7));
        assert_ne!(plain("[::1]:7".parse().unwrap()), at(7));
    }

    #[tokio::test]
    async fn a_connection_of_this_process_is_its_own_over_either_version() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let four = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(is_own(&accepted));
        // Where the machine has no version 6 nothing can come that way either.
        if let Ok(socket) = tokio::net::TcpSocket::new_v6() {
            let six = socket.connect(format!("[::ffff:127.0.0.1]:{port}").parse().unwrap()).await.unwrap();
            assert!(is_own(&listener.accept().await.unwrap().0));
            drop(six);
        }
        drop(four);
    }
}
