//! Groups of digits with what parts them, as numbers of people and things are written.
//!
//! Not here: what a number is.

use std::ops::Range;

/// Most digits that belong to one number; a longer run is none of ours.
const MOST_DIGITS: usize = 24;
const MOST_GROUPS: usize = 12;

/// Length of the run of digits at the beginning of some bytes.
pub(super) fn run(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// Groups of digits that stand close together.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    groups: [(usize, usize); MOST_GROUPS],
    count: usize,
    digits: usize,
    /// Whether more digits follow than were taken.
    pub(super) cut: bool,
}

/// Length of what parts two groups of digits: one sign or blank, or a bracket with a blank.
fn separator(bytes: &[u8]) -> usize {
    match bytes {
        [b')', b' ' | b'-' | b'/', ..] | [b' ', b'(', ..] => 2,
        [0xc2, 0xa0, ..] => 2,
        [b' ', b'/' | b'-', b' ', ..] => 3,
        [b' ' | b'-' | b'.' | b'/' | b'(' | b')', ..] => 1,
        _ => 0,
    }
}

impl Cluster {
    /// The groups from the digit at `at` on.
    pub(super) fn at(bytes: &[u8], at: usize) -> Cluster {
        let mut cluster = Cluster::default();
        let mut start = at;
        loop {
            let length = run(&bytes[start..]);
            if length == 0 {
                break;
            }
            if cluster.count == MOST_GROUPS || cluster.digits + length > MOST_DIGITS {
                cluster.cut = true;
                break;
            }
            cluster.groups[cluster.count] = (start, start + length);
            cluster.count += 1;
            cluster.digits += length;
            let end = start + length;
            match separator(&bytes[end..]) {
                0 => break,
                length => start = end + length,
            }
        }
        cluster
    }

    /// The groups.
    pub(super) fn groups(&self) -> &[(usize, usize)] {
        &self.groups[..self.count]
    }

    /// How many digits there are.
    pub(super) fn digits(&self) -> usize {
        self.digits
    }

    /// Where the last group ends.
    pub(super) fn end(&self) -> usize {
        self.groups().last().map_or(0, |g| g.1)
    }

    /// Whether the first groups have these lengths.
    pub(super) fn begins(&self, lengths: &[usize]) -> bool {
        let groups = self.groups().iter().map(|g| g.1 - g.0);
        self.count >= lengths.len() && groups.zip(lengths).all(|(g, l)| g == *l)
    }

    /// What stands between group `n` and the next.
    pub(super) fn between<'b>(&self, bytes: &'b [u8], n: usize) -> &'b [u8] {
        match self.groups().get(n..n + 2) {
            Some([one, two]) => &bytes[one.1..two.0],
            _ => &[],
        }
    }

    /// Whether all of the first `count` groups are parted by the same one of these signs.
    pub(super) fn parted_by(&self, bytes: &[u8], count: usize, signs: &[u8]) -> bool {
        let sign = self.between(bytes, 0);
        count < 2
            || (sign.len() == 1
                && signs.contains(&sign[0])
                && (1..count - 1).all(|n| self.between(bytes, n) == sign))
    }

    /// The digits of the first `count` groups, as numbers.
    pub(super) fn values<'b>(
        &'b self,
        bytes: &'b [u8],
        count: usize,
    ) -> impl DoubleEndedIterator<Item = u32> + Clone + 'b {
        let of = |group: &(usize, usize)| bytes[group.0..group.1].iter();
        self.groups()[..count].iter().flat_map(of).map(|b| u32::from(b - b'0'))
    }

    /// The bytes of the first `count` groups, if no letter, digit or fraction follows on.
    pub(super) fn range(&self, bytes: &[u8], count: usize) -> Option<Range<usize>> {
        let (start, end) = (self.groups().first()?.0, self.groups().get(count - 1)?.1);
        let next = bytes.get(end).copied().unwrap_or(0);
        let after = bytes.get(end + 1).copied().unwrap_or(0);
        let goes_on = next.is_ascii_alphanumeric()
            || next == b'_'
            || (matches!(next, b'-' | b'.' | b',' | b':') && after.is_ascii_digit());
        let cut = self.cut && count == self.count;
        (!goes_on && !cut).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_what_parts_them() {
        let bytes = b"020) 7946-0958\xc2\xa012 (3) 4 - 5  6";
        let cluster = Cluster::at(bytes, 0);
        let groups: Vec<&[u8]> = cluster.groups().iter().map(|g| &bytes[g.0..g.1]).collect();
        assert_eq!(groups, [&b"020"[..], b"7946", b"0958", b"12", b"3", b"4", b"5"]);
        assert_eq!(cluster.digits(), 16);
        assert!(cluster.begins(&[3, 4]) && !cluster.begins(&[3, 3]));
        assert!(!cluster.parted_by(bytes, 3, b"-") && !cluster.cut);
        let same = b"12-34-56";
        assert!(Cluster::at(same, 0).parted_by(same, 3, b" -"));
        assert!(Cluster::at(&[b'7'; 99], 0).cut);
    }
}
