//! The arithmetic of reductions: parts added one after the other in rank order, bf16 and f32 in
//! f32, f64 in f64 (paper, section 3.3.2, "Numerical stability"). Every transport sums with it, so
//! that all give the same bits. It moves nothing.

use half::bf16;
use quipu_math::DType;

/// The sum of `parts`, which are of type `from` and of one length, rounded once to type `to`; none
/// where there is no such sum.
pub(crate) fn in_rank_order(parts: &[&[u8]], from: DType, to: DType) -> Option<Vec<u8>> {
    match (from, to) {
        (DType::F64, DType::F64) => Some(add(parts, |x| f64::from_le_bytes(*x), f64::to_le_bytes)),
        (DType::F32, DType::F32) => Some(add(parts, |x| f32::from_le_bytes(*x), f32::to_le_bytes)),
        (DType::F32, DType::BF16) => Some(add(parts, |x| f32::from_le_bytes(*x), rounded)),
        (DType::BF16, DType::F32) => Some(add(parts, widened, f32::to_le_bytes)),
        (DType::BF16, DType::BF16) => Some(add(parts, widened, rounded)),
        _ => None,
    }
}

fn widened(x: &[u8; 2]) -> f32 {
    bf16::from_le_bytes(*x).to_f32()
}

fn rounded(x: f32) -> [u8; 2] {
    bf16::from_f32(x).to_le_bytes()
}

/// Numbers that are added up at a time: their sums stay in the cache.
const AT_ONCE: usize = 2048;

fn add<const N: usize, const M: usize, T: Copy + Default + std::ops::AddAssign>(
    parts: &[&[u8]],
    read: impl Fn(&[u8; N]) -> T,
    to_bytes: impl Fn(T) -> [u8; M],
) -> Vec<u8> {
    let parts: Vec<&[[u8; N]]> = parts.iter().map(|part| part.as_chunks::<N>().0).collect();
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let mut bytes = Vec::with_capacity(first.len() * M);
    let mut sums = [T::default(); AT_ONCE];
    for start in (0..first.len()).step_by(AT_ONCE) {
        let some = start..first.len().min(start + AT_ONCE);
        let sums = &mut sums[..some.len()];
        for (sum, x) in sums.iter_mut().zip(&first[some.clone()]) {
            *sum = read(x);
        }
        for part in rest {
            for (sum, x) in sums.iter_mut().zip(part.get(some.clone()).unwrap_or_default()) {
                *sum += read(x);
            }
        }
        bytes.extend(sums.iter().flat_map(|sum| to_bytes(*sum)));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_added_in_f32() {
        // 256 + 1 + 1 is 256 where each addition is rounded to eight bits
        let parts = [256.0, 1.0, 1.0].map(|x| bf16::from_f32(x).to_le_bytes());
        let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
        let rounded = in_rank_order(&parts, DType::BF16, DType::BF16).unwrap();
        assert_eq!(rounded, bf16::from_f32(258.0).to_le_bytes());
        let whole = in_rank_order(&parts, DType::BF16, DType::F32).unwrap();
        assert_eq!(whole, 258f32.to_le_bytes());
        assert_eq!(in_rank_order(&parts, DType::U32, DType::U32), None);
    }
}
