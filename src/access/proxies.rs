//! Who calls, where proxies stand between.

use std::{fmt, net::IpAddr, str::FromStr};

/// Networks, as CIDR writes them (RFC 4632): `10.0.0.0/8`, `fd00::/8`, or single addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<(IpAddr, u8)>);

/// A text that is no list of networks.
#[derive(Debug, Clone, thiserror::Error)]
#[error("networks such as 10.0.0.0/8, fd00::/8 or 192.0.2.1, separated by commas, are expected")]
pub struct InvalidNetworks;

impl FromStr for Networks {
    type Err = InvalidNetworks;
    fn from_str(text: &str) -> Result<Self, InvalidNetworks> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts
            .map(network)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or(InvalidNetworks)
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse().ok()?, bits.parse().ok()?),
        None => {
            let address: IpAddr = text.parse().ok()?;
            (address, width(address))
        }
    };
    (bits <= width(address)).then_some((address, bits))
}

fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl Networks {
    /// Whether an address lies in one of them.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(network, bits)| {
            let network = network.to_canonical();
            let shift = u32::from(width(network).saturating_sub(*bits));
            match (network, address) {
                (IpAddr::V4(n), IpAddr::V4(a)) => {
                    let differ = u32::from(n) ^ u32::from(a);
                    differ.checked_shr(shift).unwrap_or(0) == 0
                }
                (IpAddr::V6(n), IpAddr::V6(a)) => {
                    let differ = u128::from(n) ^ u128::from(a);
                    differ.checked_shr(shift).unwrap_or(0) == 0
                }
                _ => false,
            }
        })
    }

    /// Who called, given whom the connection is with and what `X-Forwarded-For` says, in its order.
    /// Each proxy adds whom it was called by at the end, so only what stands there is worth
    /// anything: the last address that is no proxy of these. What a caller wrote there itself
    /// stands before it.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for word in forwarded.rev().flat_map(|line| line.rsplit(',')) {
            if !self.contain(client) {
                break;
            }
            match address(word.trim()) {
                Some(before) => client = before.to_canonical(),
                None => break,
            }
        }
        client
    }
}

/// An address, alone or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let with_port = || text.parse::<std::net::SocketAddr>().ok();
    bare.parse().ok().or_else(|| with_port().map(|a| a.ip()))
}

/// One caller, as far as addresses tell: an IPv4 address, or the network of 64 bits that an IPv6
/// host chooses its addresses from (RFC 8981).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(IpAddr);

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(network.into())
            }
            v4 => v4,
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_trusted_proxies_say_counts() {
        let trusted: Networks = "10.0.0.0/8, fd00::/8,192.0.2.9".parse().unwrap();
        for (peer, forwarded, client) in [
            // Not from a proxy: what is said is not believed.
            ("198.51.100.1", &["203.0.113.5"][..], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // The caller wrote the first itself.
            ("10.0.0.1", &["1.1.1.1, 203.0.113.5"], "203.0.113.5"),
            (
                "10.0.0.1",
                &["1.1.1.1", "203.0.113.5, 10.2.3.4"],
                "203.0.113.5",
            ),
            ("192.0.2.9", &["fd00::7, 10.9.9.9"], "fd00::7"),
            // What is no address ends the search where it was.
            ("10.0.0.1", &["203.0.113.5, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.5, nobody, 10.1.1.1"], "10.1.1.1"),
            ("10.0.0.1", &["203.0.113.5:4711"], "203.0.113.5"),
            ("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["2001:db8::2"], "2001:db8::2"),
        ] {
            let found = trusted.client(ip(peer), forwarded.iter().copied());
            assert_eq!(found, ip(client), "{peer} {forwarded:?}");
        }
        assert_eq!(
            Networks::default().client(ip("10.0.0.1"), ["1.1.1.1"].into_iter()),
            ip("10.0.0.1")
        );
    }

    #[test]
    fn networks_are_read_and_others_are_refused() {
        let all: Networks = "0.0.0.0/0,::/0".parse().unwrap();
        assert!(all.contain(ip("8.8.8.8")) && all.contain(ip("2001:db8::1")));
        for wrong in [
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "proxy",
            "10.0.0.0/",
            "10.0.0.0/-1",
        ] {
            wrong.parse::<Networks>().unwrap_err();
        }
        let one: Networks = "192.0.2.1".parse().unwrap();
        assert!(one.contain(ip("192.0.2.1")) && !one.contain(ip("192.0.2.2")));
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let of = |text: &str| Caller::from(ip(text));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!(of("2001:db8:0:1::1").to_string(), "2001:db8:0:1::/64");
    }
}
