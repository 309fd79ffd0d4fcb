//! Social security numbers of the United States, and identity numbers that have check digits.
//!
//! The former have none: the form 123-45-6789 with area, group and serial that were ever given out.
//! The latter: CPF of Brazil (123.456.789-09), NIR of France (15 digits), PESEL of Poland (11 digits
//! that begin with a birthday), DNI of Spain (8 digits and a letter), codice fiscale of Italy.

use super::digits::Cluster;
use super::ip::last_word;
use std::ops::Range;

/// The social security number that a group of digits begins.
pub(super) fn ssn(text: &str, cluster: &Cluster) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    if !cluster.begins(&[3, 2, 4]) || !cluster.parted_by(bytes, 3, b"- ") {
        return None;
    }
    let range = cluster.range(bytes, 3)?;
    let blanks = cluster.between(bytes, 0) == b" ";
    let named = ["SSN", "security"].contains(&last_word(&text[..range.start]));
    let part = |n: usize| text[cluster.groups()[n].0..cluster.groups()[n].1].parse::<u32>().ok();
    let (area, group, serial) = (part(0)?, part(1)?, part(2)?);
    let given = area != 0 && area != 666 && area < 900 && group != 0 && serial != 0;
    // One printed in wallets, one in an advertisement: nobody's since.
    let known = matches!((area, group, serial), (78, 5, 1120) | (219, 9, 9999));
    (given && !known && (!blanks || named)).then_some(range)
}

/// The identity number that a group of digits begins.
pub(super) fn id(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    cpf(bytes, cluster)
        .or_else(|| nir(bytes, cluster))
        .or_else(|| pesel(bytes, cluster))
        .or_else(|| dni(bytes, cluster))
}

fn cpf(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    let signs = |n| cluster.between(bytes, n);
    let parted = signs(0) == b"." && signs(1) == b"." && signs(2) == b"-";
    if !cluster.begins(&[3, 3, 3, 2]) || !parted {
        return None;
    }
    let digits: Vec<u32> = cluster.values(bytes, 4).collect();
    let check = |count: usize| {
        let weights = (2..=count as u32 + 1).rev();
        let sum: u32 = digits[..count].iter().zip(weights).map(|(d, w)| d * w).sum();
        sum * 10 % 11 % 10 == digits[count]
    };
    let same = digits.iter().all(|d| *d == digits[0]);
    (!same && check(9) && check(10)).then(|| cluster.range(bytes, 4))?
}

fn nir(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    const FORMS: [&[usize]; 3] = [&[15], &[13, 2], &[1, 2, 2, 2, 3, 3, 2]];
    let form = FORMS
        .iter()
        .find(|form| cluster.begins(form) && cluster.parted_by(bytes, form.len(), b" "))?;
    let digits = cluster.values(bytes, form.len());
    let number = digits.clone().take(13).fold(0u64, |n, d| n * 10 + u64::from(d));
    let key = digits.clone().skip(13).fold(0u64, |n, d| n * 10 + u64::from(d));
    let sex = digits.clone().next().is_some_and(|d| d == 1 || d == 2);
    let month = digits.skip(3).take(2).fold(0, |n, d| n * 10 + d);
    let born = (1..=12).contains(&month) || (20..=42).contains(&month);
    (sex && born && key == 97 - number % 97).then(|| cluster.range(bytes, form.len()))?
}

fn pesel(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    if !cluster.begins(&[11]) {
        return None;
    }
    let digits: Vec<u32> = cluster.values(bytes, 1).collect();
    let weights = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
    let sum: u32 = digits.iter().zip(weights).map(|(d, w)| d * w).sum();
    let (month, day) = ((digits[2] * 10 + digits[3]) % 20, digits[4] * 10 + digits[5]);
    let born = (1..=12).contains(&month) && (1..=31).contains(&day);
    (born && sum.is_multiple_of(10)).then(|| cluster.range(bytes, 1))?
}

fn dni(bytes: &[u8], cluster: &Cluster) -> Option<Range<usize>> {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let &(start, end) = cluster.groups().first()?;
    if end - start != 8 {
        return None;
    }
    let dash = usize::from(bytes.get(end) == Some(&b'-'));
    let number = cluster.values(bytes, 1).fold(0, |n, d| n * 10 + d);
    let letter = bytes.get(end + dash)?;
    let next = bytes.get(end + dash + 1).copied().unwrap_or(0);
    let ends = !next.is_ascii_alphanumeric() && next != b'-';
    (ends && *letter == LETTERS[number as usize % 23]).then_some(start..end + dash + 1)
}

/// The Italian number whose six letters stand before the digits at `at`, nothing before `from`.
pub(super) fn after_letters(bytes: &[u8], at: usize, from: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(6).filter(|start| *start >= from)?;
    let found = bytes.get(start..start + 16)?;
    let form = b"AAAAAA00A00A000A";
    let fits = found.iter().zip(form).all(|(byte, kind)| match kind {
        b'A' => byte.is_ascii_uppercase(),
        _ => byte.is_ascii_digit(),
    });
    let before = start.checked_sub(1).map_or(0, |n| bytes[n]);
    let next = bytes.get(start + 16).copied().unwrap_or(0);
    if !fits || before.is_ascii_alphanumeric() || next.is_ascii_alphanumeric() {
        return None;
    }
    // Values of the characters at odd places, the first being one; at even places their numbers.
    const ODD: [u32; 26] = [
        1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24,
        23,
    ];
    let number = |byte: u8| match byte {
        b'0'..=b'9' => usize::from(byte - b'0'),
        _ => usize::from(byte - b'A'),
    };
    let term = |(n, byte): (usize, &u8)| match n % 2 {
        0 => ODD[number(*byte)],
        _ => number(*byte) as u32,
    };
    let sum: u32 = found[..15].iter().enumerate().map(term).sum();
    (sum % 26 == u32::from(found[15] - b'A')).then_some(start..start + 16)
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};

    #[test]
    fn social_security() {
        all_are(Kind::Ssn, &["123-45-6789", "899-99-9999"]);
        check("SSN 123 45 6789", &[(Kind::Ssn, "123 45 6789")]);
        none_is(&[
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "123-00-4567",
            "123-45-0000",
            "078-05-1120",
            "123-45-6789-0",
            "123-45-67890",
            "9123-45-6789",
            "123 45 6789",
            "A123-45-6789",
        ]);
    }

    #[test]
    fn identity_numbers() {
        all_are(
            Kind::NationalId,
            &[
                "529.982.247-25",
                "2 55 08 14 168 025 38",
                "255081416802538",
                "44051401359",
                "12345678Z",
                "12345678-Z",
                "RSSMRA85T10A562S",
            ],
        );
        none_is(&[
            "529.982.247-26",
            "111.111.111-11",
            "255081416802539",
            "44051401358",
            "12345678A",
            "12345678Zz",
            "RSSMRA85T10A562T",
            "XRSSMRA85T10A562S",
        ]);
    }
}
