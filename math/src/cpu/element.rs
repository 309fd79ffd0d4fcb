//! Element types of memory: how a kernel that computes in f32 reads and writes them. Not arithmetic.
#![allow(unsafe_code)]

use super::simd::Simd;
use crate::host::Mat;
use half::bf16;

/// A type that vectors of f32 are loaded from and stored to.
///
/// # Safety
/// As for [`Simd`]: pointers must be valid for the lanes that are named.
pub(super) trait Element: Copy + Send + Sync + 'static {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    /// The first `n` elements (at most all lanes), zeros after them.
    unsafe fn load_part<S: Simd>(p: *const Self, n: usize) -> S::V;
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
    /// Stores the first `n` elements (at most all lanes).
    unsafe fn store_part<S: Simd>(p: *mut Self, n: usize, v: S::V);
    /// One number, rounded as vectors are.
    fn rounded(x: f32) -> Self;
}

macro_rules! element {
    ($type:ty: $load:ident $load_part:ident $store:ident $store_part:ident $round:expr) => {
        impl Element for $type {
            #[inline(always)]
            unsafe fn load<S: Simd>(p: *const Self) -> S::V {
                // SAFETY: the caller's.
                unsafe { S::$load(p) }
            }
            #[inline(always)]
            unsafe fn load_part<S: Simd>(p: *const Self, n: usize) -> S::V {
                // SAFETY: the caller's.
                unsafe { S::$load_part(p, n) }
            }
            #[inline(always)]
            unsafe fn store<S: Simd>(p: *mut Self, v: S::V) {
                // SAFETY: the caller's.
                unsafe { S::$store(p, v) }
            }
            #[inline(always)]
            unsafe fn store_part<S: Simd>(p: *mut Self, n: usize, v: S::V) {
                // SAFETY: the caller's.
                unsafe { S::$store_part(p, n, v) }
            }
            #[inline(always)]
            fn rounded(x: f32) -> Self {
                $round(x)
            }
        }
    };
}
element!(f32: load load_part store store_part std::convert::identity);
element!(bf16: load_bf16 load_bf16_part store_bf16 store_bf16_part bf16::from_f32);

/// A matrix of either type, where a kernel looks at the type once a row or a tile.
#[derive(Clone, Copy, Debug)]
pub(super) enum Any {
    F32(Mat<f32>),
    Bf16(Mat<bf16>),
}

/// One expression for either type.
macro_rules! either {
    ($any:expr, $m:ident => $body:expr) => {
        match $any {
            crate::cpu::element::Any::F32($m) => $body,
            crate::cpu::element::Any::Bf16($m) => $body,
        }
    };
}
pub(super) use either;

impl Any {
    pub fn rows(&self) -> usize {
        either!(self, m => m.rows)
    }

    pub fn cols(&self) -> usize {
        either!(self, m => m.cols)
    }

    pub fn len(&self) -> usize {
        self.rows() * self.cols()
    }

    /// The rows from `start`, `rows` of them.
    pub fn part(&self, start: usize, rows: usize) -> Any {
        match self {
            Any::F32(m) => Any::F32(m.part(start, rows)),
            Any::Bf16(m) => Any::Bf16(m.part(start, rows)),
        }
    }

    /// The columns from `start`, `cols` of them.
    pub fn columns(&self, start: usize, cols: usize) -> Any {
        match self {
            Any::F32(m) => Any::F32(m.columns(start, cols)),
            Any::Bf16(m) => Any::Bf16(m.columns(start, cols)),
        }
    }
}
