//! Scratch bench.
#![allow(clippy::unwrap_used)]
use quipu_math::{op::*, *};
use std::time::Instant;
fn main() {
    let threads: usize = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(2);
    let cpu = Cpu::new(threads);
    println!("{}", cpu.arithmetic());
    let d: &dyn Device = &cpu;
    for (layout, m, n, k) in [
        (Layout::NT, 2048, 384, 384),
        (Layout::NT, 2048, 640, 384),
        (Layout::NT, 2048, 1024, 384),
        (Layout::NT, 2048, 2048, 384),
        (Layout::NT, 2048, 384, 1024),
        (Layout::NT, 2048, 4096, 384),
        (Layout::NN, 2048, 384, 384),
        (Layout::NN, 2048, 384, 640),
        (Layout::NN, 2048, 384, 2048),
        (Layout::NN, 2048, 1024, 384),
        (Layout::NN, 2048, 384, 4096),
        (Layout::TN, 384, 384, 2048),
        (Layout::TN, 640, 384, 2048),
        (Layout::TN, 2048, 384, 2048),
        (Layout::TN, 384, 1024, 2048),
        (Layout::TN, 4096, 384, 2048),
        (Layout::NT, 1, 4096, 384),
        (Layout::NT, 16, 4096, 384),
        (Layout::NT, 64, 4096, 384),
        (Layout::NT, 2048, 2048, 2048),
    ] {
        let f = |r, c| {
            let v = d.matrix(DType::F32, r, c).unwrap();
            d.write_floats(
                &v,
                &(0..r * c)
                    .map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5)
                    .collect::<Vec<f32>>(),
            )
            .unwrap();
            v
        };
        let (a, b) = match layout {
            Layout::NT => (f(m, k), f(n, k)),
            Layout::NN => (f(m, k), f(k, n)),
            Layout::TN => (f(k, m), f(k, n)),
        };
        let out = f(m, n);
        let op = Op::from(Matmul { layout, a, b, out, accumulate: layout == Layout::TN });
        let (mut best, t0) = (f64::MAX, Instant::now());
        while t0.elapsed().as_secs_f64() < 0.3 {
            let t = Instant::now();
            d.run(Queue::MAIN, &op).unwrap();
            best = best.min(t.elapsed().as_secs_f64());
        }
        println!(
            "{layout:?} {m}x{n}x{k}: {:.1} GFLOP/s, {:.3} ms",
            op.cost().flops as f64 / best / 1e9,
            best * 1e3
        );
    }
}
