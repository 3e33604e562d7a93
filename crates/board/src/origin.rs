//! Where a connection comes from: behind a proxy, as the proxy says; and what of an address counts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::HeaderMap;
use ipnet::IpNet;
use serde::Deserialize;

/// What proxies add their client's address to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Whose seats and rates an address shares. Of IPv6 the first 64 bits: whoever has one such address has all that begin alike. `None` for
/// loopback addresses, which are many people's (an onion service has all its visitors come from there).
pub(crate) fn counted(address: IpAddr) -> Option<IpAddr> {
    match address {
        _ if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        IpAddr::V4(_) => Some(address),
    }
}

/// Proxies in front of the board, which are believed when they say whom they speak for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Proxies(Vec<IpNet>);

impl TryFrom<Vec<String>> for Proxies {
    type Error = String;

    fn try_from(names: Vec<String>) -> Result<Proxies, String> {
        Proxies::parse(&names)
            .map_err(|name| format!("{name:?} is neither an address nor a network such as \"10.0.0.0/8\""))
    }
}

/// A proxy names its client in a way that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unclear;

impl Proxies {
    /// Reads addresses (`192.0.2.7`) and networks (`10.0.0.0/8`). Fails with the first that is neither.
    pub fn parse<'a>(names: &'a [String]) -> Result<Proxies, &'a str> {
        let read = |name: &'a String| {
            let network = name.parse::<IpNet>().or_else(|_| name.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| name.as_str())
        };
        names.iter().map(read).collect::<Result<_, _>>().map(Proxies)
    }

    /// There are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them has this address.
    pub(crate) fn include(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whom a proxy speaks for: the last one named in `X-Forwarded-For` that is no proxy of ours. Each proxy adds who spoke to it, so
    /// that what stands further ahead is only what that one claims. `None` if nobody is named.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Result<Option<IpAddr>, Unclear> {
        for line in headers.get_all(FORWARDED_FOR).iter().rev() {
            for name in line.to_str().map_err(|_| Unclear)?.rsplit(',') {
                let address = address(name.trim()).ok_or(Unclear)?;
                if !self.include(address) {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }
}

/// Somebody says for whom they speak.
pub(crate) fn speaks_for_another(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED_FOR)
}

/// An address, as proxies write it: with a port, or in brackets, or plain.
fn address(name: &str) -> Option<IpAddr> {
    let plain = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let address = plain.parse().ok().or_else(|| name.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(names: &[&str]) -> Proxies {
        Proxies::parse(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn client(proxies: &Proxies, lines: &[&str]) -> Result<Option<String>, Unclear> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        proxies.client(&headers).map(|address| address.map(|address| address.to_string()))
    }

    #[test]
    fn the_last_that_is_no_proxy_is_whom_a_proxy_speaks_for() {
        let ours = proxies(&["127.0.0.1", "10.0.0.0/8", "fd00::/8"]);
        let is =
            |lines: &[&str], address: &str| assert_eq!(client(&ours, lines), Ok(Some(address.into())), "{lines:?}");
        is(&["192.0.2.7"], "192.0.2.7");
        is(&["198.51.100.1, 192.0.2.7"], "192.0.2.7");
        is(&["192.0.2.7, 10.1.2.3,127.0.0.1"], "192.0.2.7");
        is(&["198.51.100.1", "192.0.2.7, fd00::1"], "192.0.2.7");
        is(&["nonsense, 192.0.2.7"], "192.0.2.7");
        is(&["192.0.2.7:4711"], "192.0.2.7");
        is(&["[2001:db8::1]:4711"], "2001:db8::1");
        is(&["[2001:db8::1]"], "2001:db8::1");
        is(&["2001:db8::1"], "2001:db8::1");
        is(&["::ffff:192.0.2.7"], "192.0.2.7");
        for nobody in [&[][..], &["127.0.0.1"], &["10.0.0.1", "127.0.0.1"]] {
            assert_eq!(client(&ours, nobody), Ok(None), "{nobody:?}");
        }
        for unclear in [&[""][..], &["unknown"], &["192.0.2.7,"], &["192.0.2.7", "nonsense, 127.0.0.1"]] {
            assert_eq!(client(&ours, unclear), Err(Unclear), "{unclear:?}");
        }
    }

    #[test]
    fn what_is_neither_an_address_nor_a_network_is_no_proxy() {
        assert_eq!(Proxies::parse(&["10.0.0.1".into(), "10.0.0.0/33".into()]), Err("10.0.0.0/33"));
        assert!(!proxies(&["10.0.0.1"]).include("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn of_an_address_counts_what_everybody_has_only_one_of() {
        let counts = |address: &str| counted(address.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(counts("192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(counts("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
        assert_eq!((counts("127.0.0.1"), counts("::1")), (None, None));
    }
}
