//! The address and the network of a client, for limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use poem::{Request, web::RemoteAddr};

use crate::config::TrustedProxies;

/// The client's address. Without a trusted proxy it is the address of the peer. Behind trusted proxies it is the
/// right-most address of `X-Forwarded-For` that is not a trusted proxy's. Addresses further left are the client's own
/// claim. `Forwarded` and the like are not read, because a proxy may pass on the client's own.
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
            // `unknown`, an obfuscated name or junk: nothing to its left can be trusted.
            None => break,
        }
        if !proxies.contain(&client) {
            break;
        }
    }
    translated(client).map_or(client, IpAddr::V4)
}

/// The IPv4 host behind an IPv6 address, if a translator (NAT64) or a tunnel (6to4) made the IPv6 address. Otherwise
/// one IPv4 host could use many IPv6 networks. The trusted proxies are compared before this step, because a host behind
/// a tunnel is not a trusted proxy.
fn translated(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let host = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // NAT64: RFC 6052, section 2.1; RFC 8215, whose prefixes have 96 bits, too, as a rule.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, 0, 0, high, low] => {
            host(high, low)
        }
        // 6to4: RFC 3056, section 2.
        [0x2002, high, low, ..] => host(high, low),
        _ => None,
    }
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

/// The network of a client: an IPv4 address, or the first 64 bits of an IPv6 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// The site of a client: the first 48 bits of an IPv6 address. One customer of a provider may hold a whole site, which
/// has 65,536 networks.
pub fn site(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into()),
        IpAddr::V4(_) => None,
    }
}
