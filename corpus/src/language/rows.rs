//! The weights of grams: a row for each bucket, with the weights of all languages side by side.
//!
//! Four fifths of all weights are zeros, and yet adding whole rows is several times as fast as
//! following lists of the languages that know a gram: of the grams that a text has, three fifths of
//! all languages know each, and a row is a few vector additions without a branch. At rest the zeros
//! are left out. Not here: what the sums mean ([`super::model`]).

use super::grams::BUCKETS;

/// Languages that a model can have.
pub(super) const LANES: usize = 80;
/// Rows whose sum fits 16 bits, whatever they hold.
const ROWS_OF_A_SUM: usize = u16::MAX as usize / u8::MAX as usize;

/// Sums of weights by language.
pub(super) type Sums = [u32; LANES];

/// Weights in steps, by bucket and language.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows(Vec<[u8; LANES]>);

impl Rows {
    /// Rows that say nothing.
    pub fn zero() -> Rows {
        Rows(vec![[0; LANES]; BUCKETS])
    }

    /// The weight of a bucket for a language.
    pub fn weight(&mut self, bucket: usize, language: usize) -> &mut u8 {
        &mut self.0[bucket][language]
    }

    /// Adds the rows of `buckets` to `sums`.
    pub fn add(&self, buckets: &[u16], sums: &mut Sums) {
        for some in buckets.chunks(ROWS_OF_A_SUM) {
            let mut part = [0u16; LANES];
            for bucket in some {
                let row = &self.0[usize::from(*bucket)];
                for (sum, weight) in part.iter_mut().zip(row) {
                    *sum += u16::from(*weight);
                }
            }
            sums.iter_mut().zip(&part).for_each(|(sum, part)| *sum += u32::from(*part));
        }
    }

    /// Appends the form at rest: how many weights each bucket has, then whose they are, then what
    /// they are, which apart compress better.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = |row: &[u8; LANES]| row.iter().filter(|weight| **weight > 0).count() as u8;
        out.extend(self.0.iter().map(count));
        let entries = || {
            let rows = self.0.iter().flat_map(|row| (0u8..).zip(row));
            rows.filter(|(_, weight)| **weight > 0)
        };
        out.extend(entries().map(|(language, _)| language));
        out.extend(entries().map(|(_, weight)| *weight));
    }

    /// Reads the form at rest of a model of so many languages by `take`, which gives the next
    /// bytes; the error says what is wrong with them.
    pub fn decode<'b>(
        languages: usize,
        mut take: impl FnMut(usize) -> Result<&'b [u8], String>,
    ) -> Result<Rows, String> {
        let counts = take(BUCKETS)?;
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let mut entries = take(total)?.iter().zip(take(total)?);
        let mut rows = Rows::zero();
        for (bucket, count) in counts.iter().enumerate() {
            for (language, weight) in entries.by_ref().take(usize::from(*count)) {
                let language = usize::from(*language);
                if language >= languages.min(LANES) {
                    return Err(format!("weights of language {language}, of {languages}"));
                }
                *rows.weight(bucket, language) = *weight;
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(density: usize) -> Rows {
        let mut rows = Rows::zero();
        let mut state = 7u64;
        for bucket in 0..BUCKETS {
            for language in 0..LANES {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if ((state >> 40) as usize).is_multiple_of(density) {
                    *rows.weight(bucket, language) = (state >> 33) as u8;
                }
            }
        }
        rows
    }

    /// Sums of rows against sums of weights, one by one.
    fn check(buckets: &[u16]) {
        let mut rows = drawn(2);
        *rows.weight(5, LANES - 1) = u8::MAX;
        let (mut found, mut expected) = ([3; LANES], [3; LANES]);
        rows.add(buckets, &mut found);
        for bucket in buckets {
            for (language, sum) in expected.iter_mut().enumerate() {
                *sum += u32::from(*rows.weight(usize::from(*bucket), language));
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_add_up_however_many_there_are() {
        check(&[]);
        check(&[5]);
        check(&[5; ROWS_OF_A_SUM]);
        check(&[5; 3 * ROWS_OF_A_SUM + 1]);
        check(&(0..2_000).map(|n| (n * 7919 % BUCKETS) as u16).collect::<Vec<_>>());
    }

    #[test]
    fn the_form_at_rest_returns() {
        for density in [1, 3, 1_000] {
            let rows = drawn(density);
            let mut bytes = Vec::new();
            rows.encode(&mut bytes);
            let mut rest = &bytes[..];
            let mut take = |n: usize| -> Result<&[u8], String> {
                let (head, tail) = rest.split_at_checked(n).ok_or("cut off")?;
                rest = tail;
                Ok(head)
            };
            assert!(Rows::decode(LANES, &mut take).unwrap() == rows);
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_language_that_is_not_there_is_refused() {
        let bytes = [vec![1], vec![0; BUCKETS - 1], vec![7, 9]].concat();
        let read = |languages: usize| {
            let mut rest = &bytes[..];
            Rows::decode(languages, |n| {
                let (head, tail) = rest.split_at_checked(n).ok_or("cut off")?;
                rest = tail;
                Ok(head)
            })
        };
        assert!(read(8).is_ok());
        assert_eq!(read(7).unwrap_err(), "weights of language 7, of 7");
    }
}
