//! Counter-based random numbers: Philox 4×32-10 (Salmon et al. 2011, "Parallel random numbers: as
//! easy as 1, 2, 3"). A number is a pure function of (seed, stream, index); there is no state to
//! save, and any thread or rank can compute any number. Not for cryptography.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// One sequence of random numbers, addressed by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    stream: u64,
}

impl Random {
    /// The sequence `stream` of `seed`. Different streams are independent.
    pub const fn new(seed: u64, stream: u64) -> Random {
        Random { seed, stream }
    }

    /// 128 random bits.
    pub fn bits(&self, index: u64) -> [u32; 4] {
        let mut c =
            [index as u32, (index >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let mut key = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..10 {
            let p = MULTIPLIERS[0] as u64 * c[0] as u64;
            let q = MULTIPLIERS[1] as u64 * c[2] as u64;
            c = [
                (q >> 32) as u32 ^ c[1] ^ key[0],
                q as u32,
                (p >> 32) as u32 ^ c[3] ^ key[1],
                p as u32,
            ];
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        c
    }

    /// 64 random bits.
    pub fn u64(&self, index: u64) -> u64 {
        let b = self.bits(index);
        (b[0] as u64) << 32 | b[1] as u64
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&self, index: u64) -> f64 {
        (self.u64(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform among `0..n`; 0 for n = 0. The bias is below n / 2⁶⁴.
    pub fn below(&self, index: u64, n: u64) -> u64 {
        ((self.u64(index) as u128 * n as u128) >> 64) as u64
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&self, index: u64) -> f64 {
        let b = self.bits(index);
        let word = |hi: u32, lo: u32| ((hi as u64) << 32 | lo as u64) >> 11;
        let scale = 1.0 / (1u64 << 53) as f64;
        // the radius wants (0, 1], so that its logarithm is finite
        let u = (word(b[0], b[1]) + 1) as f64 * scale;
        let v = word(b[2], b[3]) as f64 * scale;
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_authors() {
        // Random123's kat_vectors for philox4x32, 10 rounds
        assert_eq!(Random::new(0, 0).bits(0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        let ones = Random::new(u64::MAX, u64::MAX).bits(u64::MAX);
        assert_eq!(ones, [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = Random::new(0x299f31d0_a4093822, 0x03707344_13198a2e).bits(0x85a308d3_243f6a88);
        assert_eq!(pi, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn moments_are_those_of_a_normal() {
        let r = Random::new(7, 3);
        let n = 200_000;
        let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
        for i in 0..n {
            let x = r.normal(i);
            (sum, squares, fourth) = (sum + x, squares + x * x, fourth + x.powi(4));
        }
        let n = n as f64;
        assert!((sum / n).abs() < 0.01, "{}", sum / n);
        assert!((squares / n - 1.0).abs() < 0.02, "{}", squares / n);
        assert!((fourth / n - 3.0).abs() < 0.12, "{}", fourth / n);
    }

    #[test]
    fn below_stays_below() {
        let r = Random::new(1, 1);
        assert!((0..1000).all(|i| r.below(i, 7) < 7) && r.below(3, 0) == 0);
    }
}
