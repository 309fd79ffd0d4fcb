//! The block score: from features to "main text or not", by a small network whose weights are in
//! `model.txt`. Learned rather than written by hand, because the evidence for a block is a sum of
//! some two hundred weak general signs; `examples/train_extractor.rs` makes the weights and says
//! how well they do on pages they were not made from.

use std::sync::OnceLock;

use super::blocks::Page;
use super::features;

/// Hidden units that the model may have at most.
const WIDEST: usize = 96;

struct Model {
    hidden: usize,
    /// One row of `hidden` weights a feature.
    weights: Vec<f32>,
    biases: Vec<f32>,
    output: Vec<f32>,
    bias: f32,
}

fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        parse(include_str!("model.txt")).unwrap_or_else(|| {
            // cannot happen with the shipped file (a test reads it); keeps everything then
            Model { hidden: 0, weights: vec![], biases: vec![], output: vec![], bias: 1.0 }
        })
    })
}

fn parse(text: &str) -> Option<Model> {
    let mut numbers = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split_ascii_whitespace())
        .map(|word| word.parse::<f32>());
    let mut take = |n: usize| -> Option<Vec<f32>> {
        let taken: Vec<f32> = numbers.by_ref().take(n).collect::<Result<_, _>>().ok()?;
        (taken.len() == n).then_some(taken)
    };
    let head = take(2)?;
    let (features, hidden) = (head[0] as usize, head[1] as usize);
    if features != features::COUNT || hidden > WIDEST {
        return None;
    }
    Some(Model {
        hidden,
        weights: take(features * hidden)?,
        biases: take(hidden)?,
        output: take(hidden)?,
        bias: take(1)?[0],
    })
}

/// The score of one row of features; main text above 0.
fn score(model: &Model, row: &[f32]) -> f32 {
    let mut sums = [0f32; WIDEST];
    let sums = &mut sums[..model.hidden];
    sums.copy_from_slice(&model.biases);
    for (value, weights) in row.iter().zip(model.weights.chunks_exact(model.hidden.max(1))) {
        // three quarters of the features are zero
        if *value != 0.0 {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
    }
    let units = sums.iter().zip(&model.output);
    model.bias + units.map(|(sum, weight)| sum.max(0.0) * weight).sum::<f32>()
}

/// Chooses the blocks to keep; `rows` are the features of the page.
pub fn choose(page: &Page, rows: &[f32]) -> Vec<bool> {
    let model = model();
    debug_assert_eq!(rows.len(), page.blocks.len() * features::COUNT);
    let scores: Vec<f32> =
        rows.chunks_exact(features::COUNT).map(|row| score(model, row)).collect();
    let sizes: Vec<f32> = page.blocks.iter().map(|b| b.words as f32).collect();
    decide(&scores, &sizes)
}

/// Keeps the blocks that make the expected F1 of the kept words greatest: taking the scores as log
/// odds, blocks are added from the likeliest on while that helps. On a clear page this cuts near
/// even odds; where nothing is likely it still keeps what is likeliest.
pub fn decide(scores: &[f32], sizes: &[f32]) -> Vec<bool> {
    let odds: Vec<f32> = scores.iter().map(|s| 1.0 / (1.0 + (-s).exp())).collect();
    let expected: f32 = odds.iter().zip(sizes).map(|(p, n)| p * n).sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let (mut hit, mut kept, mut best, mut cut) = (0.0, 0.0, 0.0, 0);
    for (i, &block) in order.iter().enumerate() {
        hit += odds[block] * sizes[block];
        kept += sizes[block];
        let f1 = 2.0 * hit / (kept + expected).max(1e-6);
        if f1 > best {
            (best, cut) = (f1, i + 1);
        }
    }
    let mut keep = vec![false; scores.len()];
    order[..cut].iter().for_each(|&block| keep[block] = true);
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_fits_the_features() {
        let model = parse(include_str!("model.txt")).expect("the shipped model is well formed");
        assert!(model.hidden > 0);
        assert!(model.weights.iter().all(|w| w.is_finite()));
    }

    #[test]
    fn the_cut_maximises_expected_f1() {
        // clear: even odds; unclear: the likeliest; nothing: nothing
        assert_eq!(decide(&[5.0, -5.0, 4.0], &[9.0, 9.0, 9.0]), [true, false, true]);
        assert_eq!(decide(&[-1.0, -4.0, -4.0], &[30.0, 9.0, 9.0]), [true, false, false]);
        assert_eq!(decide(&[], &[]), [false; 0]);
    }

    #[test]
    fn broken_models_are_refused() {
        assert!(parse("").is_none());
        assert!(parse("3 2\n0 0").is_none());
        assert!(parse("x y").is_none());
    }
}
