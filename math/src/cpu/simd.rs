//! Vectors of f32 on four instruction sets, and the choice between them at run time. A kernel is
//! written once, generic over [`Simd`], and compiled four times; which copy runs is decided by
//! [`Instructions::run`]. Not a general SIMD library: only what the kernels here need.
//!
//! bf16 is a form of memory: numbers are widened when they are loaded and rounded when they are stored
//! (to nearest even). Only the product has arithmetic of its own for it, on *pairs*: lanes that hold
//! two bf16 numbers, the first in the lower half.
#![allow(unsafe_code)]

use half::bf16;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// An instruction set that kernels are compiled for. Results of different sets differ in their last
/// bits; results of one set never depend on anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instructions {
    /// AVX-512 with BF16: as the next, and products of bf16 pairs in one instruction.
    Avx512Bf16,
    /// AVX-512 F, BW, DQ and VL: 16 lanes, fused multiply-add.
    Avx512,
    /// AVX2 and FMA: 8 lanes, fused multiply-add.
    Avx2,
    /// What every processor has: 8 lanes in an array, multiplication and addition rounded apart.
    Portable,
}

impl Instructions {
    /// All of them, the fastest first.
    pub const ALL: [Instructions; 4] = [
        Instructions::Avx512Bf16,
        Instructions::Avx512,
        Instructions::Avx2,
        Instructions::Portable,
    ];

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Instructions::Avx512Bf16 => {
                Instructions::Avx512.available() && is_x86_feature_detected!("avx512bf16")
            }
            Instructions::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
            }
            Instructions::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
            }
            Instructions::Portable => true,
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Instructions::Portable;
    }

    /// The fastest one that this processor has.
    pub fn best() -> Instructions {
        let found = Instructions::ALL.into_iter().find(|set| set.available());
        found.unwrap_or(Instructions::Portable)
    }

    /// `avx512_bf16`, `avx512`, `avx2` or `portable`.
    pub const fn name(self) -> &'static str {
        match self {
            Instructions::Avx512Bf16 => "avx512_bf16",
            Instructions::Avx512 => "avx512",
            Instructions::Avx2 => "avx2",
            Instructions::Portable => "portable",
        }
    }

    /// Runs the copy of `kernel` for this set; the portable one where the processor lacks the set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        #[cfg(target_arch = "x86_64")]
        match self {
            // SAFETY: the features are there: devices are made from available sets only.
            Instructions::Avx512Bf16 => return unsafe { on_avx512_bf16(kernel) },
            // SAFETY: as above.
            Instructions::Avx512 => return unsafe { on_avx512(kernel) },
            // SAFETY: as above.
            Instructions::Avx2 => return unsafe { on_avx2(kernel) },
            Instructions::Portable => {}
        }
        kernel.run::<Portable>();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline(never)]
unsafe fn on_avx512_bf16<K: Kernel>(kernel: K) {
    kernel.run::<Avx512Bf16>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline(never)]
unsafe fn on_avx512<K: Kernel>(kernel: K) {
    kernel.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn on_avx2<K: Kernel>(kernel: K) {
    kernel.run::<Avx2>();
}

/// Work that is compiled once for each instruction set. `run` must be `#[inline(always)]`, and so must
/// all that it calls in its inner loops: only then does the set's wrapper generate their code.
pub(crate) trait Kernel {
    fn run<S: Simd>(self);
}

/// Vectors of f32 of one instruction set.
///
/// # Safety
/// Every method may be called only where the instruction set is present, that is, inside
/// [`Kernel::run`]; pointers must be valid for the lanes they name. No alignment is needed.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    type V: Copy;
    /// Elements of a vector.
    const LANES: usize;
    /// The set itself.
    const SET: Instructions;
    /// Rows of a tile of the matrix product that fit the registers, two vectors wide.
    const TILE: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` elements (at most all), zeros after them.
    unsafe fn load_part(p: *const f32, n: usize) -> Self::V;
    /// Stores the first `n` elements (at most all).
    unsafe fn store_part(p: *mut f32, n: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a · b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c − a · b.
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a where a > b, else b: where one is NaN, b.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// a where a < b, else b: where one is NaN, b.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer.
    unsafe fn round(a: Self::V) -> Self::V;
    /// a · 2ⁿ for integer-valued n in −256..=256, correct up to overflow and underflow.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// The first `n` lanes of a, `rest` in the others.
    unsafe fn keep(a: Self::V, n: usize, rest: Self::V) -> Self::V;
    /// Sum of the lanes, as a tree of halves.
    unsafe fn sum(a: Self::V) -> f32;
    /// Largest lane (no NaN among them, or any result).
    unsafe fn largest(a: Self::V) -> f32;
    /// Asks for the cache line at `p`, which need not be valid.
    unsafe fn prefetch(p: *const f32);
    /// The same into the second-level cache.
    unsafe fn prefetch_far(p: *const f32);
    /// LANES bf16 numbers, widened.
    unsafe fn load_bf16(p: *const bf16) -> Self::V;
    /// The first `n` (at most all), zeros after them.
    unsafe fn load_bf16_part(p: *const bf16, n: usize) -> Self::V;
    /// Rounds and stores LANES bf16 numbers.
    unsafe fn store_bf16(p: *mut bf16, v: Self::V);
    /// Rounds and stores the first `n` (at most all).
    unsafe fn store_bf16_part(p: *mut bf16, n: usize, v: Self::V);
    /// Pairs of the lanes of two vectors, rounded.
    unsafe fn pair(low: Self::V, high: Self::V) -> Self::V;
    /// Pairs of LANES numbers each of two rows of bf16.
    #[inline(always)]
    unsafe fn zip(low: *const bf16, high: *const bf16) -> Self::V {
        // SAFETY: the caller's.
        unsafe { Self::pair(Self::load_bf16(low), Self::load_bf16(high)) }
    }
    /// Pairs of neighbouring lanes of two vectors that follow each other, rounded.
    unsafe fn join(first: Self::V, second: Self::V) -> Self::V;
    /// `c + a₀ · b₀ + a₁ · b₁` of the pairs in a and b. Denormal numbers may count as zero.
    unsafe fn dot(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `to[j · to_stride + i] = from[i · from_stride + j]` for i, j below LANES.
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
}

/// eˣ with a relative error below 2⁻²³ (checked over the whole range in the tests); infinity above
/// 88.73, zero or a denormal below −87.3; NaN stays NaN.
///
/// # Safety
/// As for [`Simd`].
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's; no memory is touched.
    unsafe {
        // the bound comes first: min and max return their second operand where one is NaN
        let x = S::max(S::splat(-110.0), S::min(S::splat(100.0), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, the first with 15 bits, so that n times it is exact
        let r = S::fnma(n, S::splat(0.693_145_75), x);
        let r = S::fnma(n, S::splat(1.428_606_8e-6), r);
        let mut p = S::splat(EXP[0]);
        for &c in &EXP[1..] {
            p = S::fma(p, r, S::splat(c));
        }
        S::scale(S::fma(S::mul(r, r), p, S::add(r, S::splat(1.0))), n)
    }
}

/// Coefficients of r⁶ … r² in eʳ ≈ 1 + r + r² · p(r) on |r| ≤ ln 2 / 2, fitted for the least
/// relative error (1e-08).
const EXP: [f32; 5] = [0.001_392_625, 0.008_363_233, 0.041_666_552, 0.166_665_76, 0.5];

/// Methods of [`Simd`] that are one expression of vector instructions each.
macro_rules! methods {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)? = $body:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $type),*) $(-> $out)? {
            // SAFETY: the caller's, as `Simd` has it: the instruction set is there, and pointers are
            // valid for the lanes that are touched, in a part its first `n`.
            unsafe { $body }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lanes(n: usize) -> u16 {
    if n >= 16 { !0 } else { (1 << n) - 1 }
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const SET: Instructions = Instructions::Avx512;
    const TILE: usize = 14;

    methods! {
        fn splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        fn load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        fn store(p: *mut f32, v: __m512) = _mm512_storeu_ps(p, v);
        fn load_part(p: *const f32, n: usize) -> __m512 =
            if n >= 16 { _mm512_loadu_ps(p) } else { _mm512_maskz_loadu_ps(lanes(n), p) };
        // a masked store costs several plain ones on some processors
        fn store_part(p: *mut f32, n: usize, v: __m512) =
            if n >= 16 { _mm512_storeu_ps(p, v) } else { _mm512_mask_storeu_ps(p, lanes(n), v) };
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn round(a: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        fn scale(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        fn keep(a: __m512, n: usize, rest: __m512) -> __m512 =
            _mm512_mask_blend_ps(lanes(n), rest, a);
        fn load_bf16(p: *const bf16) -> __m512 = widen(_mm256_loadu_si256(p.cast()));
        fn load_bf16_part(p: *const bf16, n: usize) -> __m512 =
            if n >= 16 { Self::load_bf16(p) }
            else { widen(_mm256_maskz_loadu_epi16(lanes(n), p.cast())) };
        fn store_bf16(p: *mut bf16, v: __m512) =
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(rounded(v)));
        fn store_bf16_part(p: *mut bf16, n: usize, v: __m512) =
            if n >= 16 { Self::store_bf16(p, v) } else {
                let v = _mm512_cvtepi32_epi16(rounded(v));
                _mm256_mask_storeu_epi16(p.cast(), lanes(n), v)
            };
        fn pair(low: __m512, high: __m512) -> __m512 = _mm512_castsi512_ps(
            _mm512_or_si512(rounded(low), _mm512_slli_epi32::<16>(rounded(high))));
        fn zip(low: *const bf16, high: *const bf16) -> __m512 = {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(low.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(high.cast()));
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
        };
        fn join(first: __m512, second: __m512) -> __m512 =
            halves(_mm512_cvtepi32_epi16(rounded(first)), _mm512_cvtepi32_epi16(rounded(second)));
        fn dot(a: __m512, b: __m512, c: __m512) -> __m512 = {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let low = |x| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
            let high = |x| {
                _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32(!0xffff)))
            };
            _mm512_fmadd_ps(high(a), high(b), _mm512_fmadd_ps(low(a), low(b), c))
        };
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2::sum(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m512) -> f32 {
        // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(a);
            Avx2::largest(_mm256_max_ps(_mm512_castps512_ps256(a), high))
        }
    }
    methods! {
        fn prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        fn prefetch_far(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: 16 rows of 16 elements on both sides, the caller's.
        unsafe {
            let mut r = [_mm512_setzero_ps(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_loadu_ps(from.add(i * from_stride));
            }
            // pairs of rows, then fours, inside each 128-bit quarter
            let mut s = r;
            for i in 0..8 {
                s[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                s[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            let mut t = r;
            for i in 0..4 {
                let q = 4 * i;
                t[q] = _mm512_shuffle_ps::<0x44>(s[q], s[q + 2]);
                t[q + 1] = _mm512_shuffle_ps::<0xEE>(s[q], s[q + 2]);
                t[q + 2] = _mm512_shuffle_ps::<0x44>(s[q + 1], s[q + 3]);
                t[q + 3] = _mm512_shuffle_ps::<0xEE>(s[q + 1], s[q + 3]);
            }
            // then whole quarters: t[4g + c] holds column c + 4q of rows 4g..4g+4 in quarter q
            for c in 0..4 {
                let (a, b, d, e) = (t[c], t[4 + c], t[8 + c], t[12 + c]);
                let ab_low = _mm512_shuffle_f32x4::<0x88>(a, b);
                let ab_high = _mm512_shuffle_f32x4::<0xDD>(a, b);
                let de_low = _mm512_shuffle_f32x4::<0x88>(d, e);
                let de_high = _mm512_shuffle_f32x4::<0xDD>(d, e);
                let out = [
                    _mm512_shuffle_f32x4::<0x88>(ab_low, de_low),
                    _mm512_shuffle_f32x4::<0x88>(ab_high, de_high),
                    _mm512_shuffle_f32x4::<0xDD>(ab_low, de_low),
                    _mm512_shuffle_f32x4::<0xDD>(ab_high, de_high),
                ];
                for (q, v) in out.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((c + 4 * q) * to_stride), v);
                }
            }
        }
    }
}

/// bf16 to f32: the same bits in the upper half.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn widen(x: __m256i) -> __m512 {
    // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))) }
}

/// f32 to bf16 in the lower half of each lane, the upper half zero. A NaN stays one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m512i {
    // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
    unsafe {
        let x = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(x), _mm512_set1_epi32(1));
        let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let near = _mm512_srli_epi32::<16>(_mm512_add_epi32(x, up));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let quiet = _mm512_or_si512(_mm512_srli_epi32::<16>(x), _mm512_set1_epi32(0x40));
        _mm512_mask_mov_epi32(near, nan, quiet)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn halves(low: __m256i, high: __m256i) -> __m512 {
    // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
    unsafe { _mm512_castsi512_ps(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)) }
}

/// [`Avx512`] with the instructions for bf16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16;

/// Methods that are those of [`Avx512`].
#[cfg(target_arch = "x86_64")]
macro_rules! as_avx512 {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)?;)*) => {
        methods! { $(fn $name($($argument: $type),*) $(-> $out)? = Avx512::$name($($argument),*);)* }
    };
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx512Bf16 {
    type V = __m512;
    const LANES: usize = 16;
    const SET: Instructions = Instructions::Avx512Bf16;
    const TILE: usize = 14;

    as_avx512! {
        splat(x: f32) -> __m512;
        load(p: *const f32) -> __m512;
        store(p: *mut f32, v: __m512);
        load_part(p: *const f32, n: usize) -> __m512;
        store_part(p: *mut f32, n: usize, v: __m512);
        add(a: __m512, b: __m512) -> __m512;
        sub(a: __m512, b: __m512) -> __m512;
        mul(a: __m512, b: __m512) -> __m512;
        div(a: __m512, b: __m512) -> __m512;
        sqrt(a: __m512) -> __m512;
        fma(a: __m512, b: __m512, c: __m512) -> __m512;
        fnma(a: __m512, b: __m512, c: __m512) -> __m512;
        max(a: __m512, b: __m512) -> __m512;
        min(a: __m512, b: __m512) -> __m512;
        round(a: __m512) -> __m512;
        scale(a: __m512, n: __m512) -> __m512;
        keep(a: __m512, n: usize, rest: __m512) -> __m512;
        sum(a: __m512) -> f32;
        largest(a: __m512) -> f32;
        prefetch(p: *const f32);
        prefetch_far(p: *const f32);
        load_bf16(p: *const bf16) -> __m512;
        load_bf16_part(p: *const bf16, n: usize) -> __m512;
        zip(low: *const bf16, high: *const bf16) -> __m512;
        transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
    }
    methods! {
        fn store_bf16(p: *mut bf16, v: __m512) = _mm256_storeu_si256(p.cast(), near(v));
        fn store_bf16_part(p: *mut bf16, n: usize, v: __m512) =
            if n >= 16 { Self::store_bf16(p, v) }
            else { _mm256_mask_storeu_epi16(p.cast(), lanes(n), near(v)) };
        fn pair(low: __m512, high: __m512) -> __m512 = {
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(near(high)));
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(near(low)), high))
        };
        fn join(first: __m512, second: __m512) -> __m512 =
            std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first));
        fn dot(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_dpbf16_ps(
            c,
            std::mem::transmute::<__m512, __m512bh>(a),
            std::mem::transmute::<__m512, __m512bh>(b)
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn near(v: __m512) -> __m256i {
    // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)) }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    static ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight of the sixteen, from 0..=8.
    unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n.min(8)).cast()) }
}

#[cfg(target_arch = "x86_64")]
impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const SET: Instructions = Instructions::Avx2;
    const TILE: usize = 6;

    methods! {
        fn splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        fn load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        fn store(p: *mut f32, v: __m256) = _mm256_storeu_ps(p, v);
        fn load_part(p: *const f32, n: usize) -> __m256 =
            if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, mask(n)) };
        fn store_part(p: *mut f32, n: usize, v: __m256) =
            if n >= 8 { _mm256_storeu_ps(p, v) } else { _mm256_maskstore_ps(p, mask(n), v) };
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        fn fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn round(a: __m256) -> __m256 =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
    }
    #[inline(always)]
    unsafe fn scale(a: __m256, n: __m256) -> __m256 {
        // two steps, so that neither power leaves the range of exponents
        // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
        unsafe {
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let bias = _mm256_set1_epi32(127);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, bias)));
            _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(_mm256_sub_epi32(n, half)))
        }
    }
    methods! {
        fn keep(a: __m256, n: usize, rest: __m256) -> __m256 =
            _mm256_blendv_ps(rest, a, _mm256_castsi256_ps(mask(n)));
        fn load_bf16(p: *const bf16) -> __m256 = _mm256_castsi256_ps(
            _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))));
        fn load_bf16_part(p: *const bf16, n: usize) -> __m256 =
            Self::load_bf16(first_of(p, n).as_ptr());
        fn store_bf16(p: *mut bf16, v: __m256) = {
            let x = rounded_256(v);
            let x = _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi32(x, x));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(x))
        };
        fn store_bf16_part(p: *mut bf16, n: usize, v: __m256) = {
            let mut all = [bf16::ZERO; 8];
            Self::store_bf16(all.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(all.as_ptr(), p, n.min(8))
        };
        fn pair(low: __m256, high: __m256) -> __m256 = _mm256_castsi256_ps(
            _mm256_or_si256(rounded_256(low), _mm256_slli_epi32::<16>(rounded_256(high))));
        fn join(first: __m256, second: __m256) -> __m256 = {
            let both = _mm256_packus_epi32(rounded_256(first), rounded_256(second));
            _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0xd8>(both))
        };
        fn dot(a: __m256, b: __m256, c: __m256) -> __m256 = {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let low = |x| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(x));
            let high = |x| {
                _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(!0xffff)))
            };
            _mm256_fmadd_ps(high(a), high(b), _mm256_fmadd_ps(low(a), low(b), c))
        };
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
        unsafe {
            let v = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m256) -> f32 {
        // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
        unsafe {
            let v = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps::<1>(v, v)))
        }
    }
    methods! {
        fn prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T0>(p.cast());
        fn prefetch_far(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: 8 rows of 8 elements on both sides, the caller's.
        unsafe { transpose_by_element(8, from, from_stride, to, to_stride) }
    }
}

/// As [`rounded`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn rounded_256(v: __m256) -> __m256i {
    // SAFETY: registers only, on an instruction set that is there, as `Simd` has it.
    unsafe {
        let x = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(1));
        let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let near = _mm256_srli_epi32::<16>(_mm256_add_epi32(x, up));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let quiet = _mm256_or_si256(_mm256_srli_epi32::<16>(x), _mm256_set1_epi32(0x40));
        _mm256_blendv_epi8(near, quiet, nan)
    }
}

/// The first `n` of eight numbers, zeros after them.
#[inline(always)]
unsafe fn first_of(p: *const bf16, n: usize) -> [bf16; 8] {
    let mut all = [bf16::ZERO; 8];
    // SAFETY: the caller's: the first `n` are valid.
    unsafe { std::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n.min(8)) }
    all
}

/// Eight lanes in an array: what the compiler makes of it is what the target's base set has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

type Eight = [f32; 8];

#[inline(always)]
fn lanewise(a: Eight, b: Eight, f: impl Fn(f32, f32) -> f32) -> Eight {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

#[inline(always)]
fn paired(low: f32, high: f32) -> f32 {
    let bits = |x| u32::from(bf16::from_f32(x).to_bits());
    f32::from_bits(bits(low) | bits(high) << 16)
}

#[inline(always)]
unsafe fn transpose_by_element(
    n: usize,
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for i in 0..n {
        for j in 0..n {
            // SAFETY: n rows of n elements on both sides, the caller's.
            unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) }
        }
    }
}

impl Simd for Portable {
    type V = Eight;
    const LANES: usize = 8;
    const SET: Instructions = Instructions::Portable;
    const TILE: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Eight {
        [x; 8]
    }
    methods! {
        fn load(p: *const f32) -> Eight = p.cast::<Eight>().read_unaligned();
        fn store(p: *mut f32, v: Eight) = p.cast::<Eight>().write_unaligned(v);
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Eight {
        // SAFETY: the caller's: the lanes that `Simd` names are valid.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_part(p: *mut f32, n: usize, v: Eight) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller's: the first `n` lanes are valid.
            unsafe { *p.add(i) = x }
        }
    }
    #[inline(always)]
    unsafe fn add(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Eight) -> Eight {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: Eight, b: Eight, c: Eight) -> Eight {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn fnma(a: Eight, b: Eight, c: Eight) -> Eight {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Eight, b: Eight) -> Eight {
        lanewise(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: Eight) -> Eight {
        // adding and taking away 1.5 · 2²³ leaves an integer for |a| < 2²²
        a.map(|x| (x + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn scale(a: Eight, n: Eight) -> Eight {
        lanewise(a, n, |a, n| {
            let n = n as i32;
            let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
            a * power(n >> 1) * power(n - (n >> 1))
        })
    }
    #[inline(always)]
    unsafe fn keep(a: Eight, n: usize, rest: Eight) -> Eight {
        std::array::from_fn(|i| if i < n { a[i] } else { rest[i] })
    }
    #[inline(always)]
    unsafe fn sum(a: Eight) -> f32 {
        let q = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (q[0] + q[2]) + (q[1] + q[3])
    }
    #[inline(always)]
    unsafe fn largest(a: Eight) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> Eight {
        // SAFETY: the caller's: the lanes that `Simd` names are valid.
        unsafe { Self::load_bf16_part(p, 8) }
    }
    #[inline(always)]
    unsafe fn load_bf16_part(p: *const bf16, n: usize) -> Eight {
        // SAFETY: the caller's: the first `n` lanes are valid.
        unsafe { first_of(p, n) }.map(widened)
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, v: Eight) {
        // SAFETY: the caller's: the lanes that `Simd` names are valid.
        unsafe { Self::store_bf16_part(p, 8, v) }
    }
    #[inline(always)]
    unsafe fn store_bf16_part(p: *mut bf16, n: usize, v: Eight) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            // SAFETY: the caller's: the first `n` lanes are valid.
            unsafe { *p.add(i) = bf16::from_f32(x) }
        }
    }
    #[inline(always)]
    unsafe fn pair(low: Eight, high: Eight) -> Eight {
        lanewise(low, high, paired)
    }
    #[inline(always)]
    unsafe fn join(first: Eight, second: Eight) -> Eight {
        let at = |i: usize| if i < 8 { first[i] } else { second[i - 8] };
        std::array::from_fn(|i| paired(at(2 * i), at(2 * i + 1)))
    }
    #[inline(always)]
    unsafe fn dot(a: Eight, b: Eight, c: Eight) -> Eight {
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let high = |x: f32| f32::from_bits(x.to_bits() & !0xffff);
        std::array::from_fn(|i| high(a[i]) * high(b[i]) + (low(a[i]) * low(b[i]) + c[i]))
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_far(_: *const f32) {}
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: 8 rows of 8 elements on both sides, the caller's.
        unsafe { transpose_by_element(8, from, from_stride, to, to_stride) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel computes with one vector, lane by lane.
    struct Each<'a>(&'a [f32], &'a mut Vec<f32>);

    impl Kernel for Each<'_> {
        #[inline(always)]
        fn run<S: Simd>(self) {
            let mut lanes = [0.0f32; 16];
            for x in self.0.chunks(S::LANES) {
                // SAFETY: parts of a slice; room for the widest vector.
                unsafe {
                    let y = exp::<S>(S::load_part(x.as_ptr(), x.len()));
                    S::store(lanes.as_mut_ptr(), y);
                }
                self.1.extend(&lanes[..x.len()]);
            }
        }
    }

    #[test]
    fn the_exponential_is_right_to_the_last_bit_but_one() {
        let special = [f32::INFINITY, 89.0, f32::NEG_INFINITY, -200.0, f32::NAN, 0.0, -103.0];
        let x: Vec<f32> = (0..2_000_000).map(|i| -87.3 + i as f32 * 8.8e-5).collect();
        for set in Instructions::ALL.into_iter().filter(|set| set.available()) {
            let mut y = Vec::new();
            set.run(Each(&x, &mut y));
            for (x, y) in x.iter().zip(&y).filter(|(x, _)| **x < 88.72) {
                let expected = (*x as f64).exp();
                let error = (*y as f64 / expected - 1.0).abs();
                assert!(error < 1.2e-7, "{set:?}: exp({x}) = {y}, off by {error:.1e}");
            }
            let mut y = Vec::new();
            set.run(Each(&special, &mut y));
            assert_eq!(y[..4], [f32::INFINITY, f32::INFINITY, 0.0, 0.0], "{set:?}");
            assert!(y[4].is_nan() && y[5] == 1.0 && y[6] >= 0.0 && y[6] < 1e-44, "{set:?}");
        }
    }

    struct Turn;

    impl Kernel for Turn {
        #[inline(always)]
        fn run<S: Simd>(self) {
            let from: Vec<f32> = (0..16 * 20).map(|i| i as f32).collect();
            let mut to = vec![0.0; 16 * 18];
            // SAFETY: both hold a square of the widest vector at these distances.
            unsafe { S::transpose(from.as_ptr(), 20, to.as_mut_ptr(), 18) }
            for i in 0..S::LANES {
                for j in 0..S::LANES {
                    assert_eq!(to[j * 18 + i], from[i * 20 + j]);
                }
            }
        }
    }

    #[test]
    fn squares_are_turned() {
        Instructions::ALL.into_iter().filter(|set| set.available()).for_each(|set| set.run(Turn));
    }
}
