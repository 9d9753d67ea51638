//! The way to a service that somebody named: a name is looked up once, what is connected to is one of the addresses that it
//! gave, and of what comes back no more is read than an answer needs.
//!
//! A name may lead to another address each time that it is asked for, so an address is judged when it is connected to, and
//! never looked up again. Forbidden here: trust in a name, an address or an answer.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take},
    net::TcpStream,
    time::Instant,
};

/// How much is read from one connection, all protocols and TLS included: a hundred times of what an honest answer takes.
pub const READ_MAX: u64 = 64 * 1024;
/// How long one of several addresses may take to be connected to.
const CONNECT: Duration = Duration::from_secs(3);
/// How many addresses of one name are tried.
const ADDRESSES: usize = 4;
/// For how long the addresses of the API server are believed.
const OWN_FOR: Duration = Duration::from_mins(5);
/// How long they may take to be looked up.
const OWN_WITHIN: Duration = Duration::from_secs(2);

/// Why a service was not reached, or no longer listened to.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The operator never connects to the address.
    #[error("its address is {0}, to which the operator does not connect: name one that the network leads to")]
    Refused(&'static str),
    /// Its name leads nowhere.
    #[error("its name does not resolve to an address")]
    Unresolved,
    /// Its name leads to IPv6 addresses alone, and no network leads there, or one that drops what is sent.
    #[error(
        "its name has IPv6 addresses alone, and none was reached over IPv6 from here; name a host that has an IPv4 address"
    )]
    OnlySix,
    /// No connection came about.
    #[error("{}", system_words(.0))]
    Connect(io::Error),
    /// It said more than any answer takes.
    #[error("it sent more than {} KiB, and was cut off", READ_MAX / 1024)]
    TooMuch,
}

/// What a name leads to.
pub trait Resolve: Send + Sync + 'static {
    /// Its addresses now.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// As the system says.
struct System;

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// How services are reached.
#[derive(Clone)]
pub struct Network {
    resolver: Arc<dyn Resolve>,
    guard: Option<Arc<Guard>>,
    read_max: u64,
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Network").field("guarded", &self.guard.is_some()).finish_non_exhaustive()
    }
}

/// What is not connected to.
struct Guard {
    allow_loopback: bool,
    /// The names of the API server.
    names: Vec<String>,
    /// Their addresses, and since when.
    addresses: Mutex<Option<(Instant, Vec<IpAddr>)>>,
}

impl Network {
    /// Leads anywhere: for a pod that asks for itself alone.
    pub fn open() -> Self {
        Self { resolver: Arc::new(System), guard: None, read_max: READ_MAX }
    }

    /// As [`Network::open`], for a connection that stays open for hours and asks again and again: its answers are not counted.
    pub fn lasting() -> Self {
        Self { read_max: u64::MAX, ..Self::open() }
    }

    /// Leads to no address of this pod, this node, or the API server, whose names are given.
    pub fn guarded(api_server: Vec<String>, allow_loopback: bool) -> Self {
        Self::open().with_guard(api_server, allow_loopback)
    }

    /// As [`Network::guarded`], with other addresses for names than the system's.
    pub fn guarded_by(resolver: impl Resolve, api_server: Vec<String>, allow_loopback: bool) -> Self {
        Self { resolver: Arc::new(resolver), guard: None, read_max: READ_MAX }.with_guard(api_server, allow_loopback)
    }

    fn with_guard(mut self, names: Vec<String>, allow_loopback: bool) -> Self {
        self.guard = Some(Arc::new(Guard { allow_loopback, names, addresses: Mutex::new(None) }));
        self
    }

    /// Connects to a host, by its name or address.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Bounded, NetworkError> {
        let mut last = NetworkError::Unresolved;
        let addresses = self.addresses(host).await?;
        let only_six = addresses.iter().all(|address| plain(*address).is_ipv6());
        for address in addresses.into_iter().take(ADDRESSES) {
            let stream = match tokio::time::timeout(CONNECT, TcpStream::connect((address, port))).await {
                Ok(stream) => stream,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            match stream {
                Ok(stream) => {
                    // Questions are small, and wait for their answer.
                    let _ = stream.set_nodelay(true);
                    return Ok(Bounded { inner: stream.take(self.read_max) });
                }
                Err(error) if only_six && has_no_way(&error) => last = NetworkError::OnlySix,
                Err(error) => last = NetworkError::Connect(error),
            }
        }
        Err(last)
    }

    /// The addresses of a host that may be connected to.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NetworkError> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let all = self.lookup(host).await?;
        let Some(guard) = &self.guard else { return Ok(all) };
        let own = self.own(guard).await;
        let refusal = |address: &IpAddr| {
            let loopback = guard.allow_loopback && plain(*address).is_loopback();
            refused(*address).or(own.contains(&plain(*address)).then_some("the API server's")).filter(|_| !loopback)
        };
        let allowed: Vec<_> = all.iter().copied().filter(|address| refusal(address).is_none()).collect();
        match all.iter().find_map(refusal) {
            Some(why) if allowed.is_empty() => Err(NetworkError::Refused(why)),
            _ => Ok(allowed),
        }
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, NetworkError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let found = self.resolver.resolve(host).await.map_err(|_| NetworkError::Unresolved)?;
        if found.is_empty() { Err(NetworkError::Unresolved) } else { Ok(found) }
    }

    /// The addresses of the API server. A name that does not resolve protects nothing: no other client can use it either.
    async fn own(&self, guard: &Guard) -> Vec<IpAddr> {
        let known = guard.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((since, addresses)) = known
            && since.elapsed() < OWN_FOR
        {
            return addresses;
        }
        let lookups = guard.names.iter().map(|name| async move {
            tokio::time::timeout(OWN_WITHIN, self.lookup(name)).await.ok().and_then(Result::ok).unwrap_or_default()
        });
        let found = futures::future::join_all(lookups).await.into_iter().flatten().map(plain).collect::<Vec<_>>();
        *guard.addresses.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.clone()));
        found
    }
}

/// Whether the system knows no way to an address, or nobody answered on it.
fn has_no_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::TimedOut
    )
}

/// The address that packets go to: one of version 4 may be written as one of version 6 in several ways.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address else { return address };
    let [.., a, b] = six.segments();
    let four = IpAddr::V4(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)));
    match six.segments() {
        // Mapped (RFC 4291), compatible (deprecated; not :: and ::1), and by the well-known prefix of NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => four,
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) > (0, 1) => four,
        _ => address,
    }
}

/// Why the operator never connects to an address.
fn refused(address: IpAddr) -> Option<&'static str> {
    let address = plain(address);
    if address.is_loopback() {
        return Some("a loopback address");
    }
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    match address {
        // Linux takes all of 0.0.0.0/8 for this host.
        IpAddr::V4(four) if four.octets()[0] == 0 => Some("an address of this host"),
        IpAddr::V4(four) if four.is_broadcast() => Some("a broadcast address"),
        IpAddr::V4(four) if four.is_link_local() => Some("a link-local address"),
        IpAddr::V4(four) if METADATA.contains(&four) => Some("a metadata server's"),
        IpAddr::V6(six) if six.segments()[0] & 0xffc0 == 0xfe80 => Some("a link-local address"),
        IpAddr::V6(six) if is_metadata(six) => Some("a metadata server's"),
        _ => None,
    }
}

/// Servers that give credentials to any client on a node, where they are not link-local: Alibaba Cloud, Azure, Oracle.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// `fd00:ec2::/32`: instance metadata, time and pod identity of AWS.
fn is_metadata(six: Ipv6Addr) -> bool {
    six.segments()[..2] == [0xfd00, 0x0ec2]
}

/// A connection of which no more is read than its network allows: [`READ_MAX`], but for [`Network::lasting`].
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Take<TcpStream>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inner.limit() == 0 {
            return Poll::Ready(Err(io::Error::other(NetworkError::TooMuch)));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.inner.get_mut()).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(context)
    }
}

/// What the system says of an error, and never what a service said.
pub(super) fn system_words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code).to_string(),
        None => match error.kind() {
            io::ErrorKind::TimedOut => "no connection in time".to_owned(),
            io::ErrorKind::UnexpectedEof => "it ended the connection before it answered".to_owned(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                "it does not speak the protocol of this service".to_owned()
            }
            kind => kind.to_string(),
        },
    }
}

/// Whether a URL holds a control character, as it is or percent-encoded: what reads lines would take one for the end of a
/// command.
pub fn has_control_characters(url: &str) -> bool {
    percent_encoding::percent_decode_str(url).any(|byte| byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1", Some("a loopback address"))]
    #[case("127.8.9.10", Some("a loopback address"))]
    #[case("::1", Some("a loopback address"))]
    #[case("::ffff:127.0.0.1", Some("a loopback address"))]
    #[case("::127.0.0.1", Some("a loopback address"))]
    #[case("64:ff9b::7f00:1", Some("a loopback address"))]
    #[case("0.0.0.0", Some("the unspecified address"))]
    #[case("::", Some("the unspecified address"))]
    #[case("::ffff:0.0.0.0", Some("the unspecified address"))]
    #[case("0.1.2.3", Some("an address of this host"))]
    #[case("169.254.169.254", Some("a link-local address"))]
    #[case("::ffff:169.254.169.254", Some("a link-local address"))]
    #[case("64:ff9b::a9fe:a9fe", Some("a link-local address"))]
    #[case("fe80::1", Some("a link-local address"))]
    #[case("febf::1", Some("a link-local address"))]
    #[case("224.0.0.1", Some("a multicast address"))]
    #[case("ff02::1", Some("a multicast address"))]
    #[case("255.255.255.255", Some("a broadcast address"))]
    #[case("100.100.100.200", Some("a metadata server's"))]
    #[case("fd00:ec2::254", Some("a metadata server's"))]
    #[case("10.96.0.10", None)]
    #[case("192.168.1.1", None)]
    #[case("93.184.215.14", None)]
    #[case("fd12::1", None)]
    #[case("2606:2800::1", None)]
    fn addresses_of_this_pod_and_its_node_are_refused(#[case] address: &str, #[case] expected: Option<&str>) {
        assert_eq!(refused(address.parse().expect("an address")), expected);
    }

    /// Gives the next of some answers each time.
    struct Turns(Vec<Vec<IpAddr>>, AtomicUsize);

    impl Resolve for Turns {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            let turn = self.1.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::ready(Ok(self.0[turn.min(self.0.len() - 1)].clone())))
        }
    }

    fn turns(answers: &[&[&str]]) -> Turns {
        let parsed = answers.iter().map(|list| list.iter().map(|text| text.parse().expect("an address")).collect());
        Turns(parsed.collect(), AtomicUsize::new(0))
    }

    #[tokio::test]
    async fn a_name_is_judged_by_the_address_that_is_connected_to() {
        let network = Network::guarded_by(turns(&[&["192.0.2.1"], &["127.0.0.1"]]), Vec::new(), false);
        assert_eq!(network.addresses("rebinds").await.expect("allowed"), ["192.0.2.1".parse::<IpAddr>().expect("one")]);
        let error = network.connect("rebinds", 1).await.expect_err("refused");
        assert!(matches!(error, NetworkError::Refused("a loopback address")), "{error}");
        let mixed = Network::guarded_by(turns(&[&["127.0.0.1", "192.0.2.1"]]), Vec::new(), false);
        assert_eq!(mixed.addresses("mixed").await.expect("allowed"), ["192.0.2.1".parse::<IpAddr>().expect("one")]);
    }

    #[rstest]
    #[case("[::1]")]
    #[case("127.0.0.1")]
    #[case("::ffff:7f00:1")]
    #[case("localhost")]
    #[case("127.1")]
    #[case("2130706433")]
    #[case("0x7f000001")]
    #[tokio::test]
    async fn no_spelling_of_loopback_is_connected_to(#[case] host: &str) {
        let error = Network::guarded(Vec::new(), false).connect(host, 1).await.expect_err(host);
        // A system that does not know the spelling does not connect either.
        assert!(matches!(error, NetworkError::Refused(_) | NetworkError::Unresolved), "{host}: {error}");
    }

    #[tokio::test]
    async fn the_api_server_is_refused_by_whatever_name() {
        let network = Network::guarded(vec!["192.0.2.7".to_owned()], false);
        for host in ["192.0.2.7", "::ffff:192.0.2.7"] {
            let error = network.connect(host, 443).await.expect_err(host);
            assert!(matches!(error, NetworkError::Refused("the API server's")), "{error}");
        }
        assert_eq!(network.addresses("192.0.2.8").await.expect("allowed").len(), 1);
    }

    #[test]
    fn control_characters_are_found_also_where_they_are_encoded() {
        for url in ["redis://u:a\r\nb@h", "redis://u:a%0d%0aSLAVEOF@h", "redis://h/%00", "http://h\t", "redis://h/%7f"]
        {
            assert!(has_control_characters(url), "{url}");
        }
        assert!(!has_control_characters("postgresql://u:p%2F%40%25@h:1/d?sslmode=require"));
    }

    #[test]
    fn an_error_is_told_in_words_of_the_system() {
        let refused = io::Error::from_raw_os_error(111);
        assert!(system_words(&refused).to_lowercase().contains("refused"), "{}", system_words(&refused));
        let said = io::Error::other("<script> what a service said");
        assert!(!system_words(&said).contains("script"), "{}", system_words(&said));
    }
}
