//! Listens for probes and scrapes on both families of addresses, because the kubelet of an IPv6-only cluster probes the IPv6
//! address of a pod and the one of an IPv4 cluster its IPv4 address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// How many connections wait in the kernel.
const BACKLOG: i32 = 1024;

/// Listens on an address. `[::]` means every address of both families; where the kernel has no IPv6, all of IPv4.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, open)
}

fn listen_with<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        // A taken port is an error: another process may have it for IPv6 alone, and then half of the probes would go there.
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into()).map_err(|_| error)
        }
        opened => opened,
    }
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The default of a node is a sysctl, net.ipv6.bindv6only.
        socket.set_only_v6(false)?;
    }
    // A container that starts again binds although connections of the former process are still in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rstest::rstest;

    use super::*;

    const ALL: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080);

    #[test]
    fn both_families_are_answered() {
        let listener = listen("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        // A machine without IPv6 has no such address to listen on.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn without_ipv6_all_of_ipv4_is_listened_on() {
        let opened = listen_with(ALL, |address| match address {
            SocketAddr::V4(_) => Ok(address),
            SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        });
        assert_eq!(opened.unwrap(), "0.0.0.0:8080".parse().unwrap());
    }

    #[rstest]
    #[case::a_taken_port(ALL, io::ErrorKind::AddrInUse)]
    #[case::one_address("[::1]:8080".parse().unwrap(), io::ErrorKind::Unsupported)]
    fn nothing_else_is_listened_on_instead(#[case] address: SocketAddr, #[case] kind: io::ErrorKind) {
        let opened = listen_with(address, |tried| if tried == address { Err(kind.into()) } else { Ok(()) });
        assert_eq!(opened.unwrap_err().kind(), kind);
    }

    #[test]
    fn the_error_is_that_of_the_address_that_was_asked_for() {
        let opened = listen_with(ALL, |address| match address {
            SocketAddr::V4(_) => Err::<(), _>(io::ErrorKind::AddrInUse.into()),
            SocketAddr::V6(_) => Err(io::ErrorKind::PermissionDenied.into()),
        });
        assert_eq!(opened.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
