//! Element types. Not a precision policy: which role (weight, activation, gradient) has which type
//! is decided above this crate.

use half::bf16;
use std::fmt;

/// The type of the elements of a [`View`](crate::View). All are stored little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary64.
    F64,
    /// IEEE binary32.
    F32,
    /// The upper half of a binary32.
    BF16,
    /// Unsigned 32-bit integers: token ids, positions, row numbers.
    U32,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::U32 => 4,
            DType::BF16 => 2,
        }
    }

    /// Whether elements are real numbers (everything but [`DType::U32`]).
    pub const fn is_float(self) -> bool {
        !matches!(self, DType::U32)
    }

    /// The name used in messages and manifests: `f64`, `f32`, `bf16`, `u32`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
        }
    }

    /// The inverse of [`DType::name`].
    pub fn parse(name: &str) -> Option<DType> {
        [DType::F64, DType::F32, DType::BF16, DType::U32].into_iter().find(|d| d.name() == name)
    }
}

/// The nearest bf16 number, of two the even one. Rounded to f32 on the way, but there to the odd one of
/// the two neighbours where it is neither, so that the second rounding sees what the first left out.
pub(crate) fn to_bf16(x: f64) -> bf16 {
    let near = x as f32;
    let exact = f64::from(near) == x || !near.is_finite();
    if exact {
        return bf16::from_f32(near);
    }
    let above = f64::from(near).abs() > x.abs();
    let toward_zero = near.to_bits() - u32::from(above);
    bf16::from_f32(f32::from_bits(toward_zero | 1))
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f64_goes_to_the_nearest_bf16() {
        // every lower half of a binary32, on an even and on an odd upper half: as f32 is rounded
        for high in [0x3f80u32, 0x3f81, 0xbf80, 0xbf81] {
            for low in 0..=0xffffu32 {
                let x = f32::from_bits(high << 16 | low);
                let to = to_bf16(f64::from(x));
                assert_eq!(to, bf16::from_f32(x), "{x:e}");
            }
        }
        // half way between two, and what binary32 cannot hold beside it
        let half = 1.0 + 2f64.powi(-8);
        for (x, expected) in [
            (half, 0x3f80),
            (half + 2f64.powi(-50), 0x3f81),
            (half - 2f64.powi(-50), 0x3f80),
            (half + 2f64.powi(-7), 0x3f82),
            (half + 2f64.powi(-7) - 2f64.powi(-50), 0x3f81),
            (-half - 2f64.powi(-50), 0xbf81),
            (1e300, 0x7f80),
            (-1e-300, 0x8000),
        ] {
            assert_eq!(to_bf16(x).to_bits(), expected, "{x:e}");
        }
        assert!(to_bf16(f64::NAN).is_nan());
    }
}
