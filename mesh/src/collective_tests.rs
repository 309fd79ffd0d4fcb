//! Collectives over threads: right sums in rank order, and no rank ever hangs, whatever another
//! does.

use crate::{Axes, Error, Group, LaunchError, Mesh, Use, launch, placement};
use quipu_math::{DType, Device, Reference, View};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Failed = LaunchError<Error>;

fn numbers(device: &dyn Device, dtype: DType, values: &[f64]) -> View {
    let view = device.matrix(dtype, 1, values.len()).unwrap();
    device.write_floats(&view, values).unwrap();
    view
}

fn on(
    ranks: usize,
    work: impl Fn(Mesh, &Arc<Group>) -> Result<(), Error> + Sync,
) -> Result<(), Failed> {
    let run = |mesh: Mesh| work(mesh.clone(), mesh.group(Use::World));
    launch(Axes::data(ranks).unwrap(), run).map(|_| ())
}

fn check(ranks: usize, dtype: DType) {
    let d = Reference::new();
    let device: &dyn Device = &d;
    let big = 2f64.powi(24);
    on(ranks, |mesh, group| {
        let rank = mesh.rank() as f64;
        // in rank order: a large number first swallows ones in f32, later it would not
        let x = if mesh.rank() == 0 { big } else { 1.0 };
        let sum = numbers(device, dtype, &[x, rank]);
        group.all_reduce(device, &sum)?;
        let swallowed = if dtype == DType::F32 { big } else { big + ranks as f64 - 1.0 };
        let expected = if ranks == 1 { big } else { swallowed };
        let ranks_sum = (ranks * (ranks - 1) / 2) as f64;
        assert_eq!(device.read_f64(&sum).unwrap(), [expected, ranks_sum]);

        let whole = numbers(device, dtype, &vec![-1.0; 2 * ranks]);
        let piece = numbers(device, dtype, &[rank, 10.0 * rank]);
        group.all_gather(device, &piece, &whole)?;
        let expected: Vec<f64> = (0..ranks).flat_map(|r| [r as f64, 10.0 * r as f64]).collect();
        assert_eq!(device.read_f64(&whole).unwrap(), expected);

        group.reduce_scatter(device, &whole, &piece)?;
        let n = ranks as f64;
        assert_eq!(device.read_f64(&piece).unwrap(), [n * rank, n * 10.0 * rank]);

        let root = ranks - 1;
        let said = numbers(device, dtype, &[rank]);
        group.broadcast(device, &said, root)?;
        assert_eq!(device.read_f64(&said).unwrap(), [root as f64]);
        assert_eq!(group.sum_numbers(&[1.0, rank])?, [n, ranks_sum]);
        assert_eq!(group.largest_numbers(&[rank])?, [root as f64]);
        group.barrier()
    })
    .unwrap();
}

#[test]
fn the_collectives_on_any_number_of_ranks() {
    for ranks in [1, 2, 3, 5] {
        check(ranks, DType::F32);
        check(ranks, DType::F64);
    }
}

#[test]
fn a_rank_that_panics_lets_the_others_go() {
    let freed = AtomicUsize::new(0);
    let error = on(4, |mesh, group| {
        if mesh.rank() == 2 {
            panic!("out of cheese");
        }
        let error = group.barrier().unwrap_err();
        assert!(error.to_string().contains("rank 2 failed: panic: out of cheese"), "{error}");
        freed.fetch_add(1, Ordering::Relaxed);
        Err(error)
    });
    let Err(LaunchError::Panic { rank: 2, message }) = error else { panic!("{error:?}") };
    assert_eq!((message.as_str(), freed.load(Ordering::Relaxed)), ("out of cheese", 3));
}

#[test]
fn a_rank_that_errs_is_the_one_reported() {
    let error = on(3, |mesh, group| match mesh.rank() {
        1 => Err(Error::UnknownAxis { found: "ep".into() }),
        _ => group.barrier(),
    });
    assert!(error.unwrap_err().to_string().starts_with("rank 1: "));
}

#[test]
fn a_rank_that_leaves_early_is_noticed() {
    let error = on(3, |mesh, group| if mesh.rank() == 0 { Ok(()) } else { group.barrier() });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("rank 0 has finished") && error.contains("call 0 (barrier)"), "{error}");
}

#[test]
fn ranks_that_call_different_things_are_told() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    let error = on(2, |mesh, group| {
        let x = numbers(device, DType::F32, &vec![1.0; 1 + mesh.rank()]);
        group.all_reduce(device, &x)
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("4 bytes") && error.contains("8 bytes"), "{error}");
    let error = on(2, |mesh, group| {
        if mesh.rank() == 0 { group.barrier() } else { group.sum_numbers(&[1.0]).map(|_| ()) }
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("barrier") && error.contains("sum_numbers"), "{error}");
}

#[test]
fn ranks_that_wait_for_each_other_are_told() {
    let axes = Axes::parse("tp=2,dp=2").unwrap();
    let error = launch(axes, |mesh| {
        // rank 0 waits along dp, its tp neighbour along tp, and so on round the mesh
        let crossed = mesh.rank() == 0 || mesh.rank() == 3;
        let first = if crossed { Use::Gradients } else { Use::Activations };
        mesh.group(first).barrier()
    });
    assert!(error.unwrap_err().to_string().contains("every rank waits"));
}

#[test]
fn views_that_do_not_fit_are_refused() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    on(2, |_, group| {
        let (two, three) =
            (numbers(device, DType::F32, &[0.0; 2]), numbers(device, DType::F32, &[0.0; 3]));
        assert!(matches!(group.all_gather(device, &two, &three), Err(Error::Shape { .. })));
        assert!(matches!(group.reduce_scatter(device, &two, &two), Err(Error::Shape { .. })));
        assert!(matches!(group.broadcast(device, &two, 2), Err(Error::Shape { .. })));
        let tokens = device.matrix(DType::U32, 1, 2).unwrap();
        assert!(matches!(group.all_reduce(device, &tokens), Err(Error::Shape { .. })));
        Ok(())
    })
    .unwrap();
}

#[test]
fn sharded_and_whole_reduction_give_the_same_bits() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    on(3, |mesh, group| {
        let values: Vec<f64> = (0..12).map(|i| ((i * 7 + mesh.rank() * 5) as f64).sin()).collect();
        let whole = numbers(device, DType::F32, &values);
        group.all_reduce(device, &whole)?;
        let mine = placement::Gradients::of_this_rank(numbers(device, DType::F32, &values));
        let mine = placement::agree::<Error>(device, mine, &[], |_| unreachable!())?;
        let part = device.matrix(DType::F32, 1, 4).unwrap();
        let part = placement::start_reduce(&mesh, device, mine, &part)?.wait(device)?;
        let part = placement::join(&mesh, device, part, None)?;
        let all = device.read_f64(&whole).unwrap();
        let at = mesh.rank() * 4;
        assert_eq!(device.read_f64(part.view()).unwrap(), all[at..at + 4]);
        Ok(())
    })
    .unwrap();
}

#[test]
fn copies_agree_and_nothing_else_is_touched() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    on(2, |mesh, _| {
        let ranges = [1..2, 3..5];
        let group = mesh.group(Use::World).clone();
        let copies = ranges.map(|range| placement::Copies {
            range,
            usage: Use::Replicated,
            group: group.clone(),
        });
        let rank = mesh.rank() as f64;
        let view = numbers(device, DType::F64, &[rank; 6]);
        let mine = placement::Gradients::of_this_rank(view.clone());
        let bucket = |n| Ok::<_, Error>(device.matrix(DType::F64, 1, n).unwrap());
        placement::agree(device, mine, &copies, bucket)?;
        assert_eq!(device.read_f64(&view).unwrap(), [rank, 1.0, rank, 1.0, 1.0, rank]);
        assert!(group.agrees(device, &view.slice_cols(3..5).unwrap())?);
        assert!(!group.agrees(device, &view)?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn letters_of_one_tag_keep_their_order_and_others_pass_them() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    on(2, |mesh, group| {
        if mesh.rank() == 0 {
            for (value, tag) in [(1.0, 7), (2.0, 8), (3.0, 7)] {
                group.send(device, &numbers(device, DType::F32, &[value]), 1, tag)?;
            }
            let wrong = numbers(device, DType::F32, &[0.0; 2]);
            return group.send(device, &wrong, 1, 9);
        }
        for (value, tag) in [(2.0, 8), (1.0, 7), (3.0, 7)] {
            let got = numbers(device, DType::F32, &[0.0]);
            let pending = group.start_receive(&got, 0, tag)?;
            pending.wait(device)?;
            assert_eq!(device.read_f64(&got).unwrap(), [value]);
        }
        let got = numbers(device, DType::F32, &[0.0]);
        let error = group.receive(device, &got, 0, 9).unwrap_err().to_string();
        assert!(error.contains("4 bytes") && error.contains("8 bytes"), "{error}");
        assert_eq!(group.traffic().sent, 0);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_letter_that_nobody_sends_is_no_hang() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    let error = on(2, |mesh, group| match mesh.rank() {
        0 => Ok(()),
        _ => group.receive(device, &numbers(device, DType::F32, &[0.0]), 0, 0),
    });
    assert!(error.unwrap_err().to_string().contains("rank 0 has finished"));
}

#[test]
fn pieces_in_scattered_memory() {
    let d = Reference::new();
    let device: &dyn Device = &d;
    on(2, |mesh, group| {
        let rank = mesh.rank() as f64;
        let whole = numbers(device, DType::BF16, &[0.0; 4]);
        // rank 0 has the outer two, rank 1 the inner two, as context parallelism has it
        let at = |i: usize| whole.slice_cols(i..i + 1).unwrap();
        let parts = [vec![at(0), at(3)], vec![at(1), at(2)]];
        let mine = numbers(device, DType::BF16, &[rank, 10.0 + rank]);
        group.start_all_gather_parts(device, &mine, parts.to_vec())?.wait(device)?;
        assert_eq!(device.read_f64(&whole).unwrap(), [0.0, 1.0, 11.0, 10.0]);
        let sums = numbers(device, DType::F32, &[0.0; 2]);
        group.start_reduce_scatter_parts(device, &parts, &sums)?.wait(device)?;
        let expected = if mesh.rank() == 0 { [0.0, 20.0] } else { [2.0, 22.0] };
        assert_eq!(device.read_f64(&sums).unwrap(), expected);
        let turned = numbers(device, DType::BF16, &[0.0; 4]);
        group.all_to_all(
            device,
            &numbers(device, DType::BF16, &[rank, rank, 5.0, rank]),
            &turned,
        )?;
        let expected = if mesh.rank() == 0 { [0.0, 0.0, 1.0, 1.0] } else { [5.0, 0.0, 5.0, 1.0] };
        assert_eq!(device.read_f64(&turned).unwrap(), expected);
        assert_eq!(group.traffic(), crate::Traffic { calls: 3, sent: 4 + 4 + 4 });
        Ok(())
    })
    .unwrap();
}
