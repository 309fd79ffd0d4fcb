//! International bank account numbers (ISO 13616).
//!
//! A country with its length, together or in groups of four, and the remainder of 97. Not believed:
//! small letters, which the standard does not write.

use std::ops::Range;

/// Countries with the lengths of their numbers.
const LENGTHS: &[u8] = b"AD24AE23AL28AT20AZ28BA20BE16BG22BH22BR29BY28CH21CR22CY28CZ24DE22DK18DO28\
EE20EG29ES24FI18FO18FR27GB22GE22GI23GL18GR27GT28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32\
LI21LT20LU20LV21LY25MC27MD24ME22MK19MR27MT31MU30NL18NO15PK24PL28PS29PT25QA29RO24RS22SA24SC31SE24\
SI19SK24SM27ST25SV28TL23TN24TR26UA29VA22VG24XK20";

fn length_of(country: &[u8]) -> Option<usize> {
    let (rows, _) = LENGTHS.as_chunks::<4>();
    let row = rows.iter().find(|row| row[..2] == *country)?;
    Some(usize::from(row[2] - b'0') * 10 + usize::from(row[3] - b'0'))
}

/// The number whose two letters stand before the digits at `at`, nothing of it before `from`.
pub(super) fn ending(text: &str, at: usize, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let start = at.checked_sub(2).filter(|start| *start >= from)?;
    let length = length_of(&bytes[start..at])?;
    if text[from..start].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let (mut end, mut count, mut remainder) = (start, 0, 0u32);
    let mut first = [0u8; 4];
    while count < length {
        // Blanks stand between groups of four, or nowhere.
        let blank = if count % 4 == 0 && count > 0 { blank(&bytes[end..]) } else { 0 };
        let &byte = bytes.get(end + blank)?;
        if !byte.is_ascii_digit() && !byte.is_ascii_uppercase() {
            return None;
        }
        match first.get_mut(count) {
            Some(slot) => *slot = byte,
            None => remainder = append(remainder, byte),
        }
        (end, count) = (end + blank + 1, count + 1);
    }
    remainder = first.iter().fold(remainder, |r, byte| append(r, *byte));
    let goes_on = bytes.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (remainder == 1 && !goes_on).then_some(start..end)
}

fn blank(bytes: &[u8]) -> usize {
    match bytes {
        [b' ' | b'-', ..] => 1,
        [0xc2, 0xa0, ..] => 2,
        _ => 0,
    }
}

/// The remainder of 97 with a digit, or a letter as the number from 10 to 35, behind it.
fn append(remainder: u32, byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
        _ => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};
    use super::*;

    #[test]
    fn accounts() {
        all_are(
            Kind::Iban,
            &[
                "DE89370400440532013000",
                "DE89 3704 0044 0532 0130 00",
                "GB29 NWBK 6016 1331 9268 19",
                "FR14 2004 1010 0505 0001 3M02 606",
                "NO9386011117947",
                "MT84MALT011000012345MTLCAST001S",
                "CH93-0076-2011-6238-5295-7",
            ],
        );
        check("IBAN:DE89370400440532013000.", &[(Kind::Iban, "DE89370400440532013000")]);
    }

    #[test]
    fn near_misses() {
        none_is(&[
            "DE89370400440532013001",      // remainder
            "DE8937040044053201300",       // too short
            "DE893704004405320130000",     // too long
            "ZZ89370400440532013000",      // no such country
            "XDE89370400440532013000",     // part of a word
            "DE89 37 0400 4405 3201 3000", // grouped otherwise
            "de89370400440532013000",
        ]);
    }

    #[test]
    fn every_country_has_a_length() {
        assert_eq!(LENGTHS.len() % 4, 0);
        let (rows, _) = LENGTHS.as_chunks::<4>();
        assert!(rows.is_sorted());
        for row in rows {
            let length = length_of(&row[..2]).unwrap();
            assert!((15..=34).contains(&length) && row[..2].iter().all(u8::is_ascii_uppercase));
        }
    }
}
