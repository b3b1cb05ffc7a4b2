//! Who a client is, as far as limits go: an address, or a network.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use poem::{Request, web::RemoteAddr};

use crate::config::TrustedProxies;

/// The client's address: the peer's; behind trusted proxies the right-most address of `X-Forwarded-For` that
/// is not one of theirs, for what stands further left is the client's own claim. `Forwarded` and the like are
/// not read: the proxy may pass on the client's.
pub fn address(proxies: &TrustedProxies, request: &Request) -> IpAddr {
    let mut client = match request.remote_addr() {
        RemoteAddr(poem::Addr::SocketAddr(address)) => address.ip().to_canonical(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    if !proxies.contain(&client) {
        return client;
    }
    let headers = request.headers().get_all("x-forwarded-for");
    // Several lines are one list (RFC 9110, section 5.3); empty elements count for nothing (section 5.6.1).
    let lines: Vec<_> = headers.iter().collect();
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()) {
        match parse(hop) {
            Some(hop) => client = hop,
            // `unknown`, an obfuscated name, junk: whoever wrote it, nothing to its left can be believed.
            None => break,
        }
        if !proxies.contain(&client) {
            break;
        }
    }
    client
}

/// `192.0.2.7`, `192.0.2.7:443`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:443`
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok()?.into(),
        None => hop
            .parse()
            .or_else(|_| hop.parse::<SocketAddr>().map(|address| address.ip()))
            .ok()?,
    };
    Some(address.to_canonical())
}

/// What one client holds: an IPv4 address, or the 64 bits of an IPv6 address that name a network.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}
