//! Numbers of payment cards.
//!
//! The issuer's first digits with the lengths it uses, grouped as on the card or not at all, and
//! Luhn's checksum. Not believed: the numbers that issuers publish for tests.

use super::digits::Cluster;
use std::ops::Range;

/// How cards group their digits.
const FORMS: [&[usize]; 9] =
    [&[13], &[14], &[15], &[16], &[19], &[4, 4, 4, 4], &[4, 4, 4, 4, 3], &[4, 6, 5], &[4, 6, 4]];
const TESTS: [u64; 6] = [
    4_111_111_111_111_111,
    4_242_424_242_424_242,
    5_555_555_555_554_444,
    5_105_105_105_105_100,
    378_282_246_310_005,
    6_011_111_111_111_117,
];

/// The number that a group of digits begins.
pub(super) fn number(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    // Behind these signs it is a number in an address of the web, or of a thing.
    let first = cluster.groups().first()?.0;
    if first > 0 && matches!(bytes[first - 1], b'/' | b'=' | b'#' | b'&' | b'-') {
        return None;
    }
    let fits =
        |form: &&&[usize]| cluster.begins(form) && cluster.parted_by(bytes, form.len(), b" -");
    // The longest form that fits.
    let form = FORMS.iter().filter(fits).max_by_key(|form| form.len())?;
    let digits = cluster.values(bytes, form.len());
    let length = form.iter().sum::<usize>();
    let value = digits.clone().fold(0u64, |n, d| n.wrapping_mul(10).wrapping_add(u64::from(d)));
    let issued = issuer(digits.clone().take(6).fold(0, |n, d| n * 10 + d), length);
    let known = TESTS.contains(&value) || digits.clone().all(|d| Some(d) == digits.clone().next());
    (issued && !known && luhn(digits)).then(|| cluster.range(bytes, form.len()))?
}

/// Whether an issuer has numbers that begin with these six digits, of this length.
fn issuer(six: u32, length: usize) -> bool {
    match six {
        400_000..=499_999 => matches!(length, 13 | 16 | 19),
        510_000..=559_999 | 222_100..=272_099 => length == 16,
        340_000..=349_999 | 370_000..=379_999 => length == 15,
        601_100..=601_199 | 644_000..=659_999 => matches!(length, 16 | 19),
        300_000..=305_999 | 360_000..=369_999 | 380_000..=389_999 => length == 14,
        352_800..=358_999 | 620_000..=629_999 => matches!(length, 16 | 19),
        _ => false,
    }
}

/// Luhn's checksum: every second digit from the right doubled.
pub(super) fn luhn(digits: impl DoubleEndedIterator<Item = u32>) -> bool {
    let term = |(n, d): (usize, u32)| if n % 2 == 0 { d } else { d * 2 / 10 + d * 2 % 10 };
    digits.rev().enumerate().map(term).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};

    #[test]
    fn cards() {
        all_are(
            Kind::Card,
            &[
                "4539148803436467",
                "4539 1488 0343 6467",
                "4539-1488-0343-6467",
                "5425 2334 3010 9903",
                "2221 0000 0000 0009",
                "374245455400126",
                "3742 454554 00126",
                "6011 0009 9013 9424",
                "30569309025904",
                "3530111333300000",
            ],
        );
        check("4539 1488 0343 6467 12/27", &[(Kind::Card, "4539 1488 0343 6467")]);
    }

    #[test]
    fn near_misses() {
        none_is(&[
            "4539 1488 0343 6468", // checksum
            "4539 14880343 6467",  // grouped as no card is
            "4539 1488-0343 6467",
            "1234567812345670",     // holds, but nobody issues it
            "4111 1111 1111 1111",  // published for tests
            "45391488034364670000", // too long
            "x4539148803436467",
            "harbour.org/posts/4539148803436467",
            "id=4539148803436467",
            "4539148803436467.25",
        ]);
    }
}
