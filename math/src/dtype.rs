//! Element types. Not a precision policy: which role (weight, activation, gradient) has which type
//! is decided above this crate.

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

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
