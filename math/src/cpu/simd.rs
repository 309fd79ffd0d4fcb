//! Vectors of f32 on three instruction sets, and the choice between them at run time. A kernel is
//! written once, generic over [`Simd`], and compiled three times; which copy runs is decided by
//! [`Instructions::run`]. Not a general SIMD library: only what the kernels here need.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// An instruction set that kernels are compiled for. Results of different sets differ in their last
/// bits; results of one set never depend on anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instructions {
    /// AVX-512 F, BW, DQ and VL: 16 lanes, fused multiply-add.
    Avx512,
    /// AVX2 and FMA: 8 lanes, fused multiply-add.
    Avx2,
    /// What every processor has: 8 lanes in an array, multiplication and addition rounded apart.
    Portable,
}

impl Instructions {
    /// All of them, the fastest first.
    pub const ALL: [Instructions; 3] =
        [Instructions::Avx512, Instructions::Avx2, Instructions::Portable];

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
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

    /// `avx512`, `avx2` or `portable`.
    pub const fn name(self) -> &'static str {
        match self {
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
            Instructions::Avx512 => return unsafe { on_avx512(kernel) },
            // SAFETY: as above.
            Instructions::Avx2 => return unsafe { on_avx2(kernel) },
            Instructions::Portable => {}
        }
        kernel.run::<Portable>();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn on_avx512<K: Kernel>(kernel: K) {
    kernel.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
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
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: 8 rows of 8 elements on both sides, the caller's.
        unsafe { transpose_by_element(8, from, from_stride, to, to_stride) }
    }
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
    unsafe fn prefetch(_: *const f32) {}
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
