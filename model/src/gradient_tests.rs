//! The whole model against central differences in f64, and the ways to the same bits: fused or
//! apart, all layers or one by one, packed or cached. On the reference device and behind copies
//! only (`opaque`), so that nothing here touches a device's memory.

use crate::batch::Packed;
use crate::config::{Config, RopeScaling, Sizes};
use crate::generate::{Chunk, Wanted};
use crate::memory::{Capacity, Precision, Recompute};
use crate::model::Model;
use crate::table::Entry;
use quipu_math::{Count, Cpu, DType, Device, Opaque, Reference};
use quipu_mesh::Mesh;
use std::sync::Arc;

/// Every feature at once: biases, grouped heads, a head width of its own, scaled rotation.
fn small(tied: bool) -> Config {
    let mut config = Config::new(Sizes {
        vocab_size: 23,
        hidden_size: 12,
        intermediate_size: 10,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        max_positions: 64,
        tied,
    })
    .unwrap();
    config.head_dim = 4;
    config.attention_bias = true;
    config.mlp_bias = true;
    config.rope_theta = 100.0;
    config.rope_scaling = RopeScaling::Llama3 {
        factor: 4.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 16,
    };
    config
}

/// Weights large enough that every path matters, norms away from 1, biases from 0.
fn model(device: Arc<dyn Device>, config: Config, change: impl Fn(&mut Capacity)) -> Model {
    let mut capacity = Capacity::training(&*device, 24);
    change(&mut capacity);
    let mut model = Model::new(device, Mesh::one(), config, capacity).unwrap();
    model.init(5).unwrap();
    let mut values = model.device.read_f64(model.weights().unwrap()).unwrap();
    for (i, value) in values.iter_mut().enumerate() {
        *value = *value * 12.0 + 0.2 * (i as f64 * 0.7).sin();
    }
    model.device.write_floats(model.weights().unwrap(), &values).unwrap();
    model
}

fn reference() -> Arc<dyn Device> {
    Arc::new(Reference::new())
}

fn documents() -> Packed {
    Packed::of([&[3u32, 7, 7, 1, 22, 0, 5][..], &[4], &[9, 2, 9, 2, 11]])
}

/// Weights of both signs and zeros.
fn token_weights(batch: &Packed) -> Vec<f64> {
    let weigh = |(i, has): (usize, &bool)| if *has { 0.3 - 0.2 * (i % 4) as f64 } else { 0.0 };
    batch.has_target.iter().enumerate().map(weigh).collect()
}

fn objective(model: &mut Model, batch: &Packed, weights: &[f64]) -> f64 {
    model.forward(0, &batch.view()).unwrap();
    let log_probs = model.log_probs(0).unwrap();
    log_probs.iter().zip(weights).map(|(p, w)| p * w).sum()
}

fn flat_gradients(model: &Model) -> Vec<f64> {
    model.device.read_f64(model.gradients().unwrap().view()).unwrap()
}

fn check_differences(tied: bool) {
    let mut model = model(reference(), small(tied), |_| {});
    let batch = documents();
    let weights = token_weights(&batch);
    objective(&mut model, &batch, &weights);
    model.backward(0, &weights).unwrap();
    let gradients = flat_gradients(&model);
    let start = model.device.read_f64(model.weights().unwrap()).unwrap();
    let entries: Vec<Entry> = model.table().entries().to_vec();
    let step = 1e-5;
    for entry in &entries {
        // every element of vectors, a spread of elements of matrices
        let stride = (entry.elements() / 20).max(1) | 1;
        let range = entry.range();
        // differences of an objective of some tens are sound to about 1e-9 at this step
        let most = gradients[range.clone()].iter().fold(0.05f64, |m, g| m.max(g.abs()));
        for i in range.step_by(stride) {
            let mut at = |value: f64| {
                let mut moved = start.clone();
                moved[i] = value;
                model.device.write_floats(model.weights().unwrap(), &moved).unwrap();
                objective(&mut model, &batch, &weights)
            };
            // fourth order: the model bends sharply where a norm's input is small
            let mut across = |h: f64| at(start[i] + h) - at(start[i] - h);
            let difference = (8.0 * across(step) - across(2.0 * step)) / (12.0 * step);
            let off = (difference - gradients[i]).abs() / most;
            assert!(
                off < 1e-7,
                "{} element {i}: {difference} against {}",
                entry.name,
                gradients[i]
            );
        }
    }
}

#[test]
fn every_gradient_is_its_central_difference() {
    check_differences(false);
    check_differences(true);
}

fn check_bits(what: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let differ = a.iter().zip(b).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(differ, None, "{what}: first difference");
}

/// Gradients and log-probabilities by the two calls of the loss head.
fn plain(device: &Arc<dyn Device>) -> (Vec<f64>, Vec<f64>) {
    let mut model = model(device.clone(), small(true), |_| {});
    let batch = documents();
    model.forward(0, &batch.view()).unwrap();
    let log_probs = model.log_probs(0).unwrap();
    model.backward(0, &token_weights(&batch)).unwrap();
    (log_probs, flat_gradients(&model))
}

fn check_every_way(device: Arc<dyn Device>) {
    let batch = documents();
    let weights = token_weights(&batch);
    let (log_probs, gradients) = plain(&device);

    let mut fused = model(device.clone(), small(true), |_| {});
    let found = fused.forward_backward(0, &batch.view(), &weights).unwrap();
    check_bits("fused log-probabilities", &found, &log_probs);
    check_bits("fused gradients", &flat_gradients(&fused), &gradients);

    let mut apart = model(device.clone(), small(true), |c| (c.split_backward, c.slots) = (true, 2));
    apart.load_batch(1, &batch.view()).unwrap();
    let hidden = apart.forward_layers(1, 0..1, None).unwrap();
    let copy = apart.device.matrix(hidden.dtype(), hidden.rows(), hidden.cols()).unwrap();
    let values = apart.device.read_f64(&hidden).unwrap();
    apart.device.write_floats(&copy, &values).unwrap();
    apart.forward_layers(1, 1..2, Some(&copy)).unwrap();
    check_bits("by layers", &apart.log_probs(1).unwrap(), &log_probs);
    let gradient = apart.backward_head(1, &weights).unwrap();
    let gradient = apart.backward_input(1, 1..2, &gradient).unwrap();
    apart.backward_input(1, 0..1, &gradient).unwrap();
    apart.backward_weight(1, 0..2).unwrap();
    check_bits("input and weight apart", &flat_gradients(&apart), &gradients);
}

fn check_recompute(device: Arc<dyn Device>, precision: Precision, config: &Config) {
    let batch = documents();
    let weights = token_weights(&batch);
    let run = |recompute, split: bool| {
        let mut model = model(device.clone(), config.clone(), |c| {
            (c.precision, c.recompute, c.slots, c.split_backward) =
                (precision, recompute, 2, split);
        });
        model.zero_gradients().unwrap();
        // the second micro-batch goes forward before the first comes back
        model.forward(0, &batch.view()).unwrap();
        model.forward(1, &Packed::of([&[8u32, 8, 3][..]]).view()).unwrap();
        let mut log_probs = model.log_probs(1).unwrap();
        model.backward(1, &[-0.5, 0.25, 0.0]).unwrap();
        log_probs.extend(model.log_probs(0).unwrap());
        let gradient = model.backward_head(0, &weights).unwrap();
        if split {
            model.backward_input(0, 0..2, &gradient).unwrap();
            model.backward_weight(0, 0..2).unwrap();
        } else {
            model.backward_layers(0, 0..2, &gradient).unwrap();
        }
        (log_probs, flat_gradients(&model))
    };
    let kept = run(Recompute::None, false);
    let ways = [(Recompute::Elementwise, false), (Recompute::Elementwise, true)];
    for (recompute, split) in ways.into_iter().chain([(Recompute::Block, false)]) {
        let again = run(recompute, split);
        check_bits(&format!("{recompute}: log-probabilities"), &again.0, &kept.0);
        check_bits(&format!("{recompute}: gradients"), &again.1, &kept.1);
    }
}

#[test]
fn what_is_recomputed_gives_the_same_bits() {
    check_recompute(reference(), Precision::whole(DType::F64), &small(true));
    check_recompute(Arc::new(Opaque::new(Arc::new(Cpu::new(2)))), Precision::MIXED, &small(true));
    for config in [small(true), small(false), wide()] {
        check_recompute(Arc::new(Cpu::new(2)), Precision::whole(DType::F32), &config);
        check_recompute(Arc::new(Cpu::new(2)), Precision::MIXED, &config);
    }
}

#[test]
fn all_ways_through_the_model_give_the_same_bits() {
    check_every_way(reference());
    check_every_way(Arc::new(Cpu::new(2)));
    check_every_way(Arc::new(Opaque::new(Arc::new(Cpu::new(2)))));
}

fn check_cached(device: Arc<dyn Device>) {
    let mut model = model(device, small(false), |c| c.generated = 16);
    let document: Vec<u32> = (0..13).map(|i| (i * 5 + 2) % 23).collect();
    let other: Vec<u32> = (0..9).map(|i| (i * 7 + 1) % 23).collect();
    let packed = Packed::of([&other[..], &document[..]]);
    model.forward(0, &packed.view()).unwrap();
    let logits = model.logits(0).unwrap();
    let expected = model.device.read_f64(&logits.slice_rows(9..22).unwrap()).unwrap();
    let (mut cache, mut beside) = (model.cache(20).unwrap(), model.cache(9).unwrap());
    let mut found = Vec::new();
    // prefill, then one by one, with another sequence in the same calls
    let mut at = 0;
    for n in [5, 1, 1, 4, 1, 1] {
        let mut chunks = vec![Chunk { tokens: &document[at..at + n], cache: &mut cache }];
        if at < 9 {
            chunks.insert(0, Chunk { tokens: &other[at..9.min(at + n)], cache: &mut beside });
        }
        let skip = chunks.len() - 1;
        let rows = if skip == 1 { chunks[0].tokens.len() } else { 0 };
        let logits = model.extend(&mut chunks, Wanted::All).unwrap();
        let ours = logits.slice_rows(rows..rows + n).unwrap();
        found.extend(model.device.read_f64(&ours).unwrap());
        at += n;
    }
    check_bits("cached", &found, &expected);
    cache.truncate(12);
    let last = &mut [Chunk { tokens: &document[12..], cache: &mut cache }];
    let logits = model.extend(last, Wanted::Last).unwrap();
    check_bits("last row", &model.device.read_f64(&logits).unwrap(), &expected[12 * 23..]);
    assert_eq!(cache.len(), 13);
    let mut refuse = |tokens: &[u32]| {
        assert!(model.extend(&mut [Chunk { tokens, cache: &mut cache }], Wanted::Last).is_err());
        assert_eq!(cache.len(), 13);
    };
    refuse(&[]);
    refuse(&[23]);
    refuse(&[0; 8]);
    refuse(&[0; 17]);
}

fn wide() -> Config {
    Config::new(Sizes {
        vocab_size: 300,
        hidden_size: 96,
        intermediate_size: 200,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        max_positions: 200,
        tied: true,
    })
    .unwrap()
}

/// Enough rows and columns that every kernel cuts its work into several pieces.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads| {
        let device: Arc<dyn Device> = Arc::new(Cpu::new(threads));
        let mut m = model(device, wide(), |c| c.tokens = 330);
        let document = |n: u32| (0..n).map(|i| (i * i + 7 * i) % 300).collect::<Vec<_>>();
        let batch = Packed::of([&document(200)[..], &document(1), &document(129)]);
        let weights = batch.mean_loss_weights();
        let log_probs = m.forward_backward(0, &batch.view(), &weights).unwrap();
        (log_probs, flat_gradients(&m))
    };
    let one = run(1);
    for threads in [2, 3, 5] {
        let more = run(threads);
        check_bits("log-probabilities", &more.0, &one.0);
        check_bits("gradients", &more.1, &one.1);
    }
}

#[test]
fn cached_decoding_has_the_bits_of_the_packed_forward() {
    check_cached(reference());
    check_cached(Arc::new(Cpu::new(2)));
    check_cached(Arc::new(Opaque::new(Arc::new(Cpu::new(2)))));
}

#[test]
fn calls_that_do_not_fit_are_refused() {
    let mut m = model(reference(), small(false), |_| {});
    let good = documents();
    let refuse = |m: &mut Model, change: &dyn Fn(&mut Packed), word: &str| {
        let mut batch = documents();
        change(&mut batch);
        let error = m.forward(0, &batch.view()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refuse(&mut m, &|b| b.tokens[3] = 23, "tokens");
    refuse(&mut m, &|b| b.targets[0] = 99, "targets");
    refuse(&mut m, &|b| b.positions[2] = 64, "positions");
    refuse(&mut m, &|b| b.starts[2] = 3, "starts");
    refuse(&mut m, &|b| b.starts.truncate(12), "starts");
    refuse(&mut m, &|b| *b = Packed::default(), "micro-batch");
    refuse(&mut m, &|b| b.push(&[1; 20]), "capacity");
    assert!(m.forward(1, &good.view()).is_err(), "no such slot");
    assert!(m.log_probs(0).is_err(), "an empty slot");
    m.forward(0, &good.view()).unwrap();
    assert!(m.backward(0, &[1.0]).is_err(), "weights of another length");
    assert!(m.forward_layers(0, 1..3, None).is_err(), "no such layer");
    assert!(m.extend(&mut [], Wanted::Last).is_err(), "made without generation");
    let mut frozen = model(reference(), small(false), |c| c.gradients = false);
    frozen.forward(0, &good.view()).unwrap();
    frozen.log_probs(0).unwrap();
    assert!(frozen.backward(0, &token_weights(&good)).is_err(), "no gradients");
    let capacity = Capacity {
        split_backward: true,
        recompute: Recompute::Block,
        ..Capacity::training(&Reference::new(), 8)
    };
    let refused = Model::new(reference(), Mesh::one(), small(false), capacity);
    let error = refused.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("none or elementwise"), "{error}");
}

#[test]
fn memory_is_what_the_device_has_allocated() {
    let device: Arc<dyn Device> = Arc::new(Count::new());
    let dtype = DType::F32;
    let precision = Precision::whole(dtype);
    let capacity =
        Capacity { precision, slots: 3, generated: 8, ..Capacity::training(&*device, 24) };
    let mut m = Model::new(device.clone(), Mesh::one(), small(false), capacity).unwrap();
    let said: usize = m.memory().iter().map(|m| m.bytes).sum();
    assert_eq!(said as u64, device.usage().live);
    let batch = documents();
    m.forward(0, &batch.view()).unwrap();
    m.backward(0, &token_weights(&batch)).unwrap();
    assert_eq!(device.usage().peak, said as u64, "a step allocates nothing");
}

#[test]
fn initial_weights_are_a_function_of_the_seed() {
    let make = |seed| {
        let mut m = Model::new(
            reference(),
            Mesh::one(),
            small(false),
            Capacity::frozen(&Reference::new(), 0),
        )
        .unwrap();
        m.init(seed).unwrap();
        m.device.read_f64(m.weights().unwrap()).unwrap()
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
    let spread = (make(1)[..23 * 12].iter().map(|x| x * x).sum::<f64>() / (23.0 * 12.0)).sqrt();
    assert!((0.015..0.025).contains(&spread), "{spread}");
}
