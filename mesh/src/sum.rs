//! The arithmetic of reductions: parts added one after the other in rank order, bf16 and f32 in
//! f32, f64 in f64 (paper, section 3.3.2, "Numerical stability"). Every transport sums with it, so
//! that all give the same bits. It moves nothing.

use half::bf16;
use quipu_math::DType;

/// The sum of `parts`, which are of type `from` and of one length, rounded once to type `to`; none
/// where there is no such sum.
pub(crate) fn in_rank_order(parts: &[&[u8]], from: DType, to: DType) -> Option<Vec<u8>> {
    match (from, to) {
        (DType::F64, DType::F64) => {
            let sums = add(parts, |x| f64::from_le_bytes(*x));
            Some(write(&sums, f64::to_le_bytes))
        }
        (DType::F32 | DType::BF16, DType::F32 | DType::BF16) => {
            let sums = match from {
                DType::F32 => add(parts, |x| f32::from_le_bytes(*x)),
                _ => add(parts, |x| bf16::from_le_bytes(*x).to_f32()),
            };
            Some(match to {
                DType::F32 => write(&sums, f32::to_le_bytes),
                _ => write(&sums, |x| bf16::from_f32(x).to_le_bytes()),
            })
        }
        _ => None,
    }
}

fn add<const N: usize, T: Copy + std::ops::AddAssign>(
    parts: &[&[u8]],
    read: impl Fn(&[u8; N]) -> T,
) -> Vec<T> {
    let numbers = |part: &[u8]| part.as_chunks::<N>().0.iter().map(&read).collect::<Vec<T>>();
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let mut sums = numbers(first);
    for part in rest {
        for (sum, x) in sums.iter_mut().zip(part.as_chunks::<N>().0) {
            *sum += read(x);
        }
    }
    sums
}

fn write<const N: usize, T: Copy>(sums: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; sums.len() * N];
    for (out, sum) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(sums) {
        *out = to_bytes(*sum);
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
