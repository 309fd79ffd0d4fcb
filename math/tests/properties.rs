//! Properties that what stands above relies on: a row's bits do not depend on its neighbours, cached
//! decoding is prefill, NaN is never hidden, views that overlap are found, errors say what is wrong.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use quipu_math::DType::{BF16, F32, F64, U32};
use quipu_math::op::*;
use quipu_math::{
    Count, Cpu, DType, Device, Error, Instructions, Opaque, Queue, Random, Reference, View,
};

fn random(d: &dyn Device, rows: usize, cols: usize, stream: u64) -> View {
    let (view, r) = (d.matrix(F32, rows, cols).unwrap(), Random::new(2, stream));
    let draw = |i| r.normal(i as u64) as f32;
    d.write_floats(&view, &(0..rows * cols).map(draw).collect::<Vec<_>>()).unwrap();
    view
}

fn integers(d: &dyn Device, values: &[u32]) -> View {
    let view = d.matrix(U32, values.len(), 1).unwrap();
    d.write_u32(&view, values).unwrap();
    view
}

fn bits(d: &dyn Device, view: &View) -> Vec<u32> {
    d.read_f32(view).unwrap().into_iter().map(f32::to_bits).collect()
}

fn sets() -> impl Iterator<Item = Instructions> {
    Instructions::ALL.into_iter().filter(|set| set.available())
}

#[test]
fn a_row_of_a_product_has_the_same_bits_in_any_number_of_rows() {
    for set in sets() {
        let cpu = Cpu::with(2, set);
        let d: &dyn Device = &cpu;
        for (layout, n, k) in
            [(Layout::NT, 70, 2500), (Layout::NN, 70, 2500), (Layout::NT, 513, 33)]
        {
            let (a, out) = (random(d, 200, k, 1), d.matrix(F32, 200, n).unwrap());
            let b = if layout == Layout::NT { random(d, n, k, 2) } else { random(d, k, n, 2) };
            let (whole, b2) = (a.clone(), b.clone());
            let all = out.clone();
            d.execute(Matmul { layout, a: whole, b: b2, packed: None, plus: None, out: all })
                .unwrap();
            for (rows, first) in (1..=66).map(|m| (m, m % 7)).chain([(100, 3), (199, 1)]) {
                let part = d.matrix(F32, rows, n).unwrap();
                let a = a.slice_rows(first..first + rows).unwrap();
                let (b, some) = (b.clone(), part.clone());
                d.execute(Matmul { layout, a, b, packed: None, plus: None, out: some }).unwrap();
                let whole = out.slice_rows(first..first + rows).unwrap();
                assert!(bits(d, &part) == bits(d, &whole), "{layout:?}, {rows} rows, {set:?}");
            }
        }
    }
}

/// Attention of the given rows of `q` over the first keys of `k` and `v`.
fn attend(d: &dyn Device, x: &[View; 3], rows: std::ops::Range<usize>, starts: &[u32]) -> Vec<u32> {
    let (heads, kv_heads) = (6, 2);
    let keys = rows.end;
    let out = d.matrix(F32, rows.len(), x[0].cols()).unwrap();
    let lse = d.matrix(F32, rows.len(), heads).unwrap();
    d.execute(Attention {
        q: x[0].slice_rows(rows.clone()).unwrap(),
        k: x[1].slice_rows(0..keys).unwrap(),
        v: x[2].slice_rows(0..keys).unwrap(),
        starts: integers(d, &starts[rows.clone()]),
        query_offset: rows.start,
        heads,
        kv_heads,
        scale: 0.3,
        out: out.clone(),
        lse: lse.clone(),
    })
    .unwrap();
    let mut all = bits(d, &out);
    all.extend(bits(d, &lse));
    all
}

#[test]
fn cached_decoding_has_the_bits_of_prefill() {
    for set in sets() {
        let cpu = Cpu::with(2, set);
        let d: &dyn Device = &cpu;
        let x = [random(d, 150, 6 * 20, 1), random(d, 150, 2 * 20, 2), random(d, 150, 2 * 20, 3)];
        let starts = vec![0u32; 150];
        let whole = attend(d, &x, 0..150, &starts);
        let (outs, lses) = whole.split_at(150 * 120);
        for step in [1, 7, 64] {
            for first in (0..150).step_by(step) {
                let rows = first..150.min(first + step);
                let part = attend(d, &x, rows.clone(), &starts);
                let (out, lse) = part.split_at(rows.len() * 120);
                assert!(out == &outs[rows.start * 120..rows.end * 120], "{rows:?} {set:?}");
                assert!(lse == &lses[rows.start * 6..rows.end * 6], "{rows:?} {set:?}");
            }
        }
        // the same document behind another one in a packed batch
        let alone = attend(d, &x.clone().map(|v| v.slice_rows(37..150).unwrap()), 0..113, &starts);
        let packed: Vec<u32> = (0..150).map(|t| if t < 37 { 0 } else { 37 }).collect();
        let packed = attend(d, &x, 0..150, &packed);
        assert!(alone[..113 * 120] == packed[37 * 120..150 * 120], "{set:?}");
    }
}

#[test]
fn the_fused_loss_head_has_the_bits_of_the_two_calls() {
    let cpu = Cpu::new(2);
    let d: &dyn Device = &cpu;
    for (t, dim, v) in [(900, 24, 1000), (50, 16, 100), (20, 8, 17000)] {
        let (hidden, weight, weights) =
            (random(d, t, dim, 1), random(d, v, dim, 2), random(d, t, 1, 3));
        d.execute(Fill { out: weights.slice_rows(3..5).unwrap(), value: 0.0 }).unwrap();
        let ids: Vec<u32> = (0..t).map(|i| (i * 7919 % v) as u32).collect();
        let targets = integers(d, &ids);
        let outs = |s| {
            [random(d, t, 1, s), random(d, t, 1, s), random(d, t, dim, s), random(d, v, dim, 9)]
        };
        let [target_logit, lse, dhidden, dweight] = outs(4);
        let fused = [target_logit.clone(), lse.clone(), dhidden.clone(), dweight.clone()];
        d.execute(LossHeadFused {
            hidden: hidden.clone(),
            weight: weight.clone(),
            targets: targets.clone(),
            weights: weights.clone(),
            target_logit,
            lse,
            dhidden,
            dweight: Some(dweight),
            packed: None,
            packed_turned: None,
        })
        .unwrap();
        let apart = outs(5);
        let [target_logit, lse, dhidden, dweight] = apart.clone();
        let (vocab_start, vocab) = (0, v);
        d.execute(LossHead {
            hidden: hidden.clone(),
            weight: weight.clone(),
            targets: targets.clone(),
            vocab_start,
            vocab,
            target_logit,
            lse: lse.clone(),
            packed: None,
        })
        .unwrap();
        d.execute(LossHeadBackward {
            hidden,
            weight,
            targets,
            vocab_start,
            vocab,
            lse,
            weights,
            dhidden,
            dweight: Some(dweight),
            packed: None,
            packed_turned: None,
        })
        .unwrap();
        for (a, b) in fused.iter().zip(&apart) {
            assert!(bits(d, a) == bits(d, b), "{t} {dim} {v}");
        }
        let silent = d.read_f32(&fused[2].slice_rows(3..5).unwrap()).unwrap();
        assert!(silent.iter().all(|&g| g == 0.0));
    }
}

#[test]
fn nan_reaches_what_depends_on_it_and_nothing_else() {
    let devices: [Arc<dyn Device>; 3] = [
        Arc::new(Cpu::new(2)),
        Arc::new(Cpu::with(1, Instructions::Portable)),
        Arc::new(Reference::new()),
    ];
    for d in &devices {
        let d: &dyn Device = d.as_ref();
        let x = random(d, 90, 40, 1);
        d.execute(Fill { out: x.slice_rows(70..71).unwrap(), value: f64::NAN }).unwrap();
        let nan_rows = |view: &View| -> Vec<usize> {
            let all = d.read_f64(view).unwrap();
            let rows = all.chunks(view.cols()).enumerate();
            rows.filter(|(_, r)| r.iter().any(|v| v.is_nan())).map(|(i, _)| i).collect()
        };
        let out = d.matrix(F32, 90, 40).unwrap();
        let (a, b, o) = (x.clone(), random(d, 40, 40, 2), out.clone());
        d.execute(Matmul { layout: Layout::NT, a, b, packed: None, plus: None, out: o }).unwrap();
        assert_eq!(nan_rows(&out), [70]);
        let (gate, up) = (x.clone(), random(d, 90, 40, 3));
        d.execute(SwiGlu { gate, up, out: out.clone() }).unwrap();
        assert_eq!(nan_rows(&out), [70]);
        let (rstd, weight) = (d.matrix(F32, 90, 1).unwrap(), random(d, 1, 40, 4));
        d.execute(RmsNorm { x: x.clone(), weight, out: out.clone(), rstd, epsilon: 1e-5 }).unwrap();
        assert_eq!(nan_rows(&out), [70]);
        let lse = d.matrix(F32, 90, 1).unwrap();
        d.execute(LogSumExp { x: x.clone(), out: lse.clone() }).unwrap();
        assert_eq!(nan_rows(&lse), [70]);
        let best = d.matrix(U32, 90, 1).unwrap();
        let one = x.slice_rows(69..70).unwrap().slice_cols(11..12).unwrap();
        d.execute(Fill { out: one, value: f64::NAN }).unwrap();
        d.execute(ArgMax { x: x.clone(), out: best.clone() }).unwrap();
        assert_eq!(d.read_u32(&best).unwrap()[69], 11);
        let sum = d.matrix(F64, 1, 1).unwrap();
        d.execute(SumSquares { x: x.clone(), out: sum.clone(), accumulate: false }).unwrap();
        assert!(d.read_f64(&sum).unwrap()[0].is_nan());
        // a key of row 70: queries before it do not see it
        let (q, k, v) = (random(d, 90, 40, 5), x.clone(), random(d, 90, 40, 6));
        let (lse, starts) = (d.matrix(F32, 90, 2).unwrap(), integers(d, &[0; 90]));
        let (query_offset, heads, kv_heads, scale) = (0, 2, 2, 0.2);
        for (k, v) in [(k.clone(), v.clone()), (v, k)] {
            let (q, starts, out, lse) = (q.clone(), starts.clone(), out.clone(), lse.clone());
            let o = out.clone();
            d.execute(Attention {
                q,
                k,
                v,
                starts,
                query_offset,
                heads,
                kv_heads,
                scale,
                out,
                lse,
            })
            .unwrap();
            assert_eq!(nan_rows(&o), (69..90).collect::<Vec<_>>());
        }
    }
}

#[test]
fn overlap_of_views_is_what_their_elements_say() {
    let d = Count::new();
    let (buffer, random) = (d.allocate(4 * 120).unwrap(), Random::new(8, 0));
    let mut at = 0;
    let mut draw = |n: u64| {
        at += 1;
        random.below(at, n) as usize
    };
    let mut view = |stride: usize| {
        let (offset, rows, cols) = (draw(40), 1 + draw(4), 1 + draw(stride as u64));
        View::new(buffer.clone(), F32, offset, (rows, cols), stride).unwrap()
    };
    let elements = |v: &View| -> Vec<usize> {
        (0..v.rows())
            .flat_map(|r| (0..v.cols()).map(move |c| (r, c)))
            .map(|(r, c)| v.offset() + r * v.stride() + c)
            .collect()
    };
    let (mut met, mut apart) = (0, 0);
    for round in 0..20_000 {
        let (a, b) = (view(11), view(if round % 4 == 0 { 7 } else { 11 }));
        let both = elements(&a).iter().any(|e| elements(&b).contains(e));
        assert_eq!(a.overlaps(&b), b.overlaps(&a));
        // exact where the row distances agree, never too careless elsewhere
        if round % 4 == 0 {
            assert!(a.overlaps(&b) || !both, "{a:?} {b:?}");
        } else {
            assert_eq!(a.overlaps(&b), both, "{a:?} {b:?}");
        }
        met += usize::from(both);
        apart += usize::from(!both);
    }
    assert!(met > 1000 && apart > 1000);
}

#[test]
fn slices_of_views_are_the_elements_they_name() {
    let cpu = Cpu::new(1);
    let d: &dyn Device = &cpu;
    let whole = d.matrix(F32, 9, 8).unwrap();
    d.write_floats(&whole, &(0..72).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
    let part = whole.slice_rows(2..6).unwrap().slice_cols(3..5).unwrap();
    let expected = [19.0, 20.0, 27.0, 28.0, 35.0, 36.0, 43.0, 44.0];
    assert_eq!(d.read_f64(&part).unwrap(), expected);
    assert!(part.slice_rows(3..5).is_err() && part.slice_cols(1..3).is_err());
    assert!(part.reshape(2, 4).is_err() && whole.reshape(8, 9).is_ok());
    assert!(whole.slice_rows(9..9).unwrap().is_empty());
    let bytes = whole.reinterpret(BF16).unwrap();
    assert_eq!((bytes.rows(), bytes.cols()), (1, 144));
    let end = View::new(whole.buffer().clone(), F64, 0, (5, 8), 8);
    assert!(end.unwrap_err().to_string().contains("inside a buffer of 36 elements"));
}

fn refused(d: &dyn Device, op: impl Into<Op>) -> String {
    d.execute(op).unwrap_err().to_string()
}

#[test]
fn errors_name_op_operand_found_and_expected() {
    let devices: [Arc<dyn Device>; 3] =
        [Arc::new(Cpu::new(1)), Arc::new(Reference::new()), Arc::new(Count::new())];
    for d in &devices {
        let d: &dyn Device = d.as_ref();
        let m = |r, c| d.matrix(F32, r, c).unwrap();
        let (a, b, out) = (m(3, 4), m(5, 6), m(3, 5));
        let layout = Layout::NT;
        let said = refused(d, Matmul { layout, a, b, packed: None, plus: None, out });
        assert_eq!(said, "Matmul: `b` is 5 x 6, expected 5 x 4");
        let said = refused(d, Add { a: m(2, 2), b: m(2, 2), out: d.matrix(U32, 2, 2).unwrap() });
        assert_eq!(said, "Add: `out` has type u32, expected f32, f64 or bf16");
        let x = m(4, 4);
        let (a, b) = (x.slice_cols(0..3).unwrap(), m(4, 3));
        let said = refused(d, Add { a, b, out: x.slice_cols(1..4).unwrap() });
        assert!(said.starts_with("Add: `out` is written and overlaps `a`"), "{said}");
        let (k, v) = (m(9, 8), m(9, 8));
        let (q, starts, out, lse) = (m(3, 8), integers(d, &[0; 3]), m(3, 8), m(3, 2));
        let (query_offset, heads, kv_heads, scale) = (7, 2, 2, 1.0);
        let said = refused(
            d,
            Attention { q, k, v, starts, query_offset, heads, kv_heads, scale, out, lse },
        );
        assert_eq!(
            said,
            "Attention: `query_offset` is 7 with 3 queries, expected an end inside 9 keys"
        );
        let other = Cpu::new(1);
        let foreign = (&other as &dyn Device).matrix(F32, 2, 2).unwrap();
        let said = refused(d, Scale { alpha: 1.0, out: foreign });
        assert!(said.contains("`out` does not lie in the memory of device"), "{said}");
        let error = d.matrix(F32, usize::MAX / 2, 3).unwrap_err();
        assert!(matches!(error, Error::Allocate { .. }), "{error}");
    }
}

#[test]
fn memory_that_is_not_there_is_an_error_with_the_bytes_wanted() {
    let devices: [&dyn Device; 2] = [&Cpu::new(1), &Count::with_limit(1 << 40)];
    for d in devices {
        match d.allocate(1 << 60) {
            Err(Error::Allocate { bytes, .. }) => assert_eq!(bytes, 1 << 60),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn ids_out_of_range_are_named() {
    let devices: [&dyn Device; 2] = [&Cpu::new(1), &Reference::new()];
    for d in devices {
        let (ids, table) = (integers(d, &[1, 2, 9]), d.matrix(F32, 5, 3).unwrap());
        let out = d.matrix(F32, 3, 3).unwrap();
        let said = refused(d, Embed { ids, table, vocab_start: 0, vocab: 5, out });
        assert_eq!(said, "Embed: `ids` row 2 is 9, expected less than 5");
    }
    let d: &dyn Device = &Cpu::new(1);
    let m = || d.matrix(F64, 2, 2).unwrap();
    let said = refused(d, Add { a: m(), b: m(), out: m() });
    assert_eq!(said, "Add: device cpu has no kernel for `a` in f64 (it has f32)");
}

#[test]
fn a_missing_wait_shows_behind_the_wall() {
    let opaque = Opaque::new(Arc::new(Cpu::new(1)));
    let d: &dyn Device = &opaque;
    let (x, y) = (d.matrix(F32, 1, 1).unwrap(), d.matrix(F32, 1, 1).unwrap());
    let read = |queue| {
        let mut bytes = [0; 4];
        d.read(queue, &y, &mut bytes).unwrap();
        f32::from_le_bytes(bytes)
    };
    let copy = || Op::from(Copy { x: x.clone(), out: y.clone() });
    d.execute(Fill { out: x.clone(), value: 3.0 }).unwrap();
    d.run(Queue::COPY, &copy()).unwrap();
    assert_eq!(read(Queue::COPY), 0.0);
    d.wait(Queue::COPY, &d.record(Queue::MAIN).unwrap()).unwrap();
    d.run(Queue::COPY, &copy()).unwrap();
    assert_eq!(read(Queue::COPY), 3.0);
}

#[test]
fn copies_convert_between_types_and_round_to_even() {
    let devices: [&dyn Device; 2] = [&Cpu::new(1), &Reference::new()];
    for d in devices {
        let values = [1.0f64, 1.00390625, 1.01171875, -0.1, 3e38, f64::NAN];
        let x = d.matrix(F64, 2, 3).unwrap();
        d.write_floats(&x, &values).unwrap();
        let through = |types: &[DType]| {
            let mut from = x.clone();
            for &t in types {
                let out = d.matrix(t, 2, 3).unwrap();
                d.execute(Copy { x: from, out: out.clone() }).unwrap();
                from = out;
            }
            d.read_f32(&from).unwrap()
        };
        let rounded = through(&[F32, BF16, F32]);
        assert_eq!(rounded[..4], [1.0, 1.0, 1.015625, -0.100097656]);
        assert!(rounded[5].is_nan());
        assert_eq!(through(&[BF16, F64])[..4], rounded[..4]);
    }
}
