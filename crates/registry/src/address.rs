//! Which addresses may be connected to. An IPv6 address that stands for one of IPv4 is judged as that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of metadata servers that look like others: Alibaba, Azure, Oracle, Amazon and Google.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Whether a registry may be there: anywhere but on this machine, on its link, and at metadata servers. Many are in
/// private networks.
pub(crate) fn may_be_registry(address: IpAddr) -> bool {
    match unwrapped(address) {
        IpAddr::V4(address) => is_host(address),
        IpAddr::V6(address) => is_host_v6(address),
    }
}

/// Whether it is an address of the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    may_be_registry(address)
        && match unwrapped(address) {
            IpAddr::V4(address) => is_global(address),
            IpAddr::V6(address) => is_global_v6(address),
        }
}

/// Whether a host that is written in numbers is no plain address: `127.1`, `0x7f000001`, `2130706433`. What looks names
/// up takes them for addresses, also a proxy, whose answer is not seen.
pub(crate) fn is_written_oddly(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    !last.is_empty() && is_number && host.parse::<Ipv4Addr>().is_err()
}

/// Whether a name means this machine wherever it is looked up.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

fn is_host(address: Ipv4Addr) -> bool {
    let nowhere = address.octets()[0] == 0 || address.is_broadcast() || address.is_multicast();
    !nowhere && !address.is_loopback() && !address.is_link_local() && !METADATA.contains(&address)
}

fn is_host_v6(address: Ipv6Addr) -> bool {
    let nowhere = address.is_unspecified() || address.is_multicast();
    let near = address.is_loopback() || address.is_unicast_link_local();
    // Amazon keeps all its link-local services there.
    let of_amazon = address.segments()[..2] == METADATA_V6[0].segments()[..2];
    !nowhere && !near && !of_amazon && !METADATA_V6.contains(&address)
}

/// Without what is private, shared, for documentation or benchmarks, or reserved (RFC 6890).
fn is_global(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [100, second, ..] => second & 0xc0 == 64,
        [192, 0, 0, _] | [192, 88, 99, _] => true,
        [198, second, ..] if second & 0xfe == 18 => true,
        [first, ..] => first >= 240,
    };
    !special && !address.is_private() && !address.is_documentation()
}

/// Of `2000::/3`, without the blocks for protocols and documentation.
fn is_global_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second >= 0x1000,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// The address of IPv4 in one of IPv6: mapped, compatible, translated (`64:ff9b::/96`, and within a network `64:ff9b:1::/48`, whose
/// longer prefixes end before the last four bytes as a rule) or 6to4 (`2002::/16`).
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(wrapped) = address else { return address };
    let (bytes, segments) = (wrapped.octets(), wrapped.segments());
    let inner = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff | 0, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 1, ..] => [bytes[12], bytes[13], bytes[14], bytes[15]],
        [0x2002, ..] => [bytes[2], bytes[3], bytes[4], bytes[5]],
        _ => return address,
    };
    IpAddr::V4(inner.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> (bool, bool) {
        let address = text.parse().unwrap();
        (may_be_registry(address), is_public(address))
    }

    #[test]
    fn a_registry_is_neither_here_nor_a_metadata_server() {
        for text in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "169.254.169.254",
            "169.254.170.2",
            "224.0.0.1",
            "239.255.255.250",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:fffe::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
        ] {
            assert_eq!(judged(text), (false, false), "{text}");
        }
    }

    #[test]
    fn a_registry_may_be_in_a_private_network_and_a_foreign_token_server_not() {
        for text in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.255",
            "192.88.99.1",
            "240.0.0.1",
            "192.0.0.1",
            "fc00::1",
            "fd12:3456::1",
            "2001:db8::1",
            "2001::1",
            "2001:20::1",
            "3fff::1",
            "100::1",
            "fec0::1",
            "64:ff9b:1::10.1.2.3",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "::ffff:100.64.0.1",
        ] {
            assert_eq!(judged(text), (true, false), "{text}");
        }
    }

    #[test]
    fn the_internet_is_public() {
        for text in [
            "1.1.1.1",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1",
            "2001:4860:4860::8888",
            "2a00::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(judged(text), (true, true), "{text}");
        }
    }

    #[test]
    fn numbers_that_are_addresses_in_disguise_are_seen() {
        for host in [
            "2130706433",
            "0x7f000001",
            "0X7f.1",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "1.2.3.4.5",
            "127.0.0.1.",
            "a.1",
            "0x",
        ] {
            assert!(is_written_oddly(host), "{host}");
        }
        for host in ["127.0.0.1", "ghcr.io", "1password.com", "0x7f.example", "registry", "a.b1"] {
            assert!(!is_written_oddly(host), "{host}");
        }
    }
}
