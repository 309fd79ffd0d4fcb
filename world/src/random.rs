//! Counter-based randomness: every page, name and dialogue draws from its own keyed stream, so that
//! any of them can be made again alone and in any order.
//!
//! It is NOT a cryptographic generator. The mixing function is splitmix64 (Steele, Lea and Flood,
//! "Fast splittable pseudorandom number generators", 2014).

/// One stream of random numbers, fixed by its key.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    state: u64,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Draw {
    /// The stream of `seed` that belongs to `purpose` and `index`.
    pub(crate) fn keyed(seed: u64, purpose: &str, index: u64) -> Self {
        let mut state = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
        for byte in purpose.bytes() {
            state = mix(state ^ u64::from(byte).wrapping_mul(0x0100_0000_01b3));
        }
        Self { state: mix(state ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93)) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Uniform in `0..n`; 0 for an empty range.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A rank in `0..n` whose frequency falls as one over the rank (Zipf's law).
    pub(crate) fn zipf(&mut self, n: usize) -> usize {
        let rank = ((n as f64 + 1.0).powf(self.unit())) as usize;
        rank.clamp(1, n.max(1)) - 1
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fixes_its_stream_and_ranks_follow_zipf() {
        let (mut a, mut b) = (Draw::keyed(7, "page", 3), Draw::keyed(7, "page", 3));
        assert_eq!(a.next(), b.next());
        assert_ne!(Draw::keyed(7, "page", 4).next(), b.next());
        let mut counts = [0_usize; 20];
        for _ in 0..20_000 {
            counts[a.zipf(20)] += 1;
        }
        assert!(counts[0] > 3 * counts[4] && counts[19] > 50, "{counts:?}");
        assert!((0..1000).all(|_| a.below(3) < 3));
    }
}
