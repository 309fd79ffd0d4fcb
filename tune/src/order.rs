//! In which order a finite set is read over and over: a shuffle a pass, a pure function of (seed,
//! index). Not the loader of pre-training, which orders documents, not rows.

use std::sync::{Mutex, PoisonError};

/// Orders of one set.
#[derive(Debug)]
pub struct Order {
    count: usize,
    seed: u64,
    /// The pass last asked for, kept because its neighbours are asked for next.
    last: Mutex<Option<(u64, Vec<u32>)>>,
}

impl Order {
    /// Orders of `count` things, at least one.
    #[must_use]
    pub fn new(count: usize, seed: u64) -> Self {
        Self { count: count.max(1), seed, last: Mutex::new(None) }
    }

    /// Which thing comes at `index`, counted through all passes.
    #[must_use]
    pub fn at(&self, index: u64) -> usize {
        let (pass, within) = (index / self.count as u64, (index % self.count as u64) as usize);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((kept, order)) if *kept == pass => order[within] as usize,
            _ => {
                let order = Self::shuffled(self.count, self.seed, pass);
                let found = order[within] as usize;
                *last = Some((pass, order));
                found
            }
        }
    }

    /// The numbers below `count` in the order of one pass (Fisher and Yates).
    #[must_use]
    pub fn shuffled(count: usize, seed: u64, pass: u64) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        let key = mix(seed ^ mix(pass));
        for i in (1..count).rev() {
            let draw = u128::from(mix(key ^ i as u64)) * (i as u128 + 1);
            order.swap(i, (draw >> 64) as usize);
        }
        order
    }
}

/// Finaliser of SplitMix64 (Steele, Lea and Flood, 2014): spreads every bit over all bits.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_another_permutation() {
        let order = Order::new(50, 7);
        let pass = |n: u64| (n * 50..(n + 1) * 50).map(|i| order.at(i)).collect::<Vec<_>>();
        for n in 0..4 {
            let mut sorted = pass(n);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(pass(0), pass(1));
        let again = Order::new(50, 7);
        assert_eq!(again.at(73), order.at(73));
        assert_ne!(pass(0), (0..50).map(|i| Order::new(50, 8).at(i)).collect::<Vec<_>>());
    }
}
