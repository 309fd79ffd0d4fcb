//! Addresses of the public internet.
//!
//! Version 4: four numbers up to 255 without leading zeros, that no version or section number is
//! likely to be; version 6: global unicast, written out or with `::`. Not believed: private, local,
//! shared, multicast, reserved and documentation ranges, since they are nobody's.

use super::digits::Cluster;
use std::net::Ipv6Addr;
use std::ops::Range;

const LONGEST_V6: usize = 39;
/// Words before four numbers with points that are no address.
const OTHER: [&str; 10] = [
    "version", "ver", "v", "release", "firmware", "section", "chapter", "clause", "table", "build",
];

/// The address that a group of digits begins.
pub(super) fn v4(text: &str, cluster: &Cluster) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    if cluster.groups().len() < 4 || !cluster.parted_by(bytes, 4, b".") {
        return None;
    }
    let mut parts = [0u32; 4];
    for (part, &(start, end)) in parts.iter_mut().zip(cluster.groups()) {
        if end - start > 3 || (end - start > 1 && bytes[start] == b'0') {
            return None;
        }
        *part = text[start..end].parse().ok().filter(|n| *n <= 255)?;
    }
    let range = cluster.range(bytes, 4)?;
    let outline = parts.iter().all(|part| *part < 10) || parts[0] == 0;
    let word = last_word(&text[..range.start]);
    let named = OTHER.iter().any(|w| word.eq_ignore_ascii_case(w));
    (!outline && !named && is_public(parts)).then_some(range)
}

/// The last word before a place, at most a few blanks and points away.
pub(super) fn last_word(before: &str) -> &str {
    let near = before.trim_end_matches([' ', '.', ':', '#', '\u{a0}']);
    let letters = near.bytes().rev().take(16).take_while(u8::is_ascii_alphabetic).count();
    &near[near.len() - letters..]
}

fn is_public([a, b, c, _]: [u32; 4]) -> bool {
    let kept = match (a, b) {
        (0 | 10 | 127 | 224.., _) | (169, 254) | (192, 168) | (198, 18 | 19) => true,
        (100, 64..128) | (172, 16..32) => true,
        (192, 0) => c == 0 || c == 2,
        (198, 51) => c == 100,
        (203, 0) => c == 113,
        _ => false,
    };
    !kept
}

/// The address of version 6 that begins at `at`: the public ones begin with 2 or 3.
pub(super) fn v6(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let part = |b: &u8| b.is_ascii_hexdigit() || *b == b':';
    if !matches!(bytes[at], b'2' | b'3') || bytes.get(at + 4) != Some(&b':') {
        return None;
    }
    let before = at.checked_sub(1).map_or(0, |n| bytes[n]);
    let length = bytes[at..].iter().take(LONGEST_V6 + 2).take_while(|b| part(b)).count();
    let found = text[at..at + length].trim_end_matches(':');
    let next = bytes.get(at + found.len()).copied().unwrap_or(0);
    if before == b':' || next.is_ascii_alphanumeric() || found.matches(':').count() < 2 {
        return None;
    }
    let groups = found.parse::<Ipv6Addr>().ok()?.segments();
    let documentation = groups[0] == 0x2001 && groups[1] == 0xdb8;
    // Two groups and `::` is as likely a namespace of a program.
    let filled = groups.iter().filter(|g| **g != 0).count() > 2;
    (filled && !documentation).then_some(at..at + found.len())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};

    #[test]
    fn public_addresses() {
        all_are(
            Kind::Ip,
            &[
                "81.2.69.160",
                "255.1.2.3".replace("255", "223").as_str(),
                "172.32.0.1",
                "2a00:1450:4001:81b::200e",
                "2001:4860:4860:0:0:0:0:8888",
                "2606:4700::6810:84e5",
            ],
        );
        check("81.2.69.160:8080", &[]); // a service, written with its port
        check("http://81.2.69.160/x", &[(Kind::Ip, "81.2.69.160")]);
        check("from 2606:4700::6810:84e5:", &[(Kind::Ip, "2606:4700::6810:84e5")]);
    }

    #[test]
    fn near_misses() {
        none_is(&[
            "10.1.2.30",
            "127.0.0.1",
            "172.16.40.1",
            "192.168.1.100",
            "169.254.10.10",
            "100.64.12.1",
            "224.0.10.251",
            "192.0.2.44",
            "198.51.100.7",
            "203.0.113.99",
            "0.12.14.15",
            "256.12.14.15",
            "81.2.69.160.3",
            "81.02.69.160",
            "1.2.3.4",
            "version 81.2.69.160",
            "v81.2.69.160",
            "Section 12.2.69.1",
            "2001:db8::1:2:3",
            "fe80::1:2:3",
            "2001::foo",
            "2000::1",
            "2001: A Space Odyssey",
            "12:30:45:50",
            "2010:20:30",
        ]);
    }
}
