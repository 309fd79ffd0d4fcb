//! The block score: from features to "main text or not", by a small network whose weights are in
//! `model.txt`: one for pages that say of themselves that they are articles, one for all others.
//! Learned rather than written by hand, because the evidence for a block is a sum of some two
//! hundred weak general signs; `examples/train_extractor.rs` makes the weights and says how well
//! they do on pages they were not made from.

use std::sync::OnceLock;

use super::blocks::{Kind, Page};
use super::features::{self, PageSigns};
use super::{byline, repeats};

/// Hidden units that the model may have at most.
const WIDEST: usize = 96;

struct Network {
    hidden: usize,
    /// One row of `hidden` weights a feature.
    weights: Vec<f32>,
    biases: Vec<f32>,
    output: Vec<f32>,
    bias: f32,
}

/// The network for pages that are no articles, and that for articles.
fn networks() -> &'static [Network; 2] {
    static NETWORKS: OnceLock<[Network; 2]> = OnceLock::new();
    NETWORKS.get_or_init(|| {
        // cannot fail with the shipped file (a test reads it); keeps everything then
        let all =
            || Network { hidden: 0, weights: vec![], biases: vec![], output: vec![], bias: 1.0 };
        parse(include_str!("model.txt")).unwrap_or_else(|| [all(), all()])
    })
}

fn parse(text: &str) -> Option<[Network; 2]> {
    let mut numbers = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split_ascii_whitespace())
        .map(|word| word.parse::<f32>());
    let mut take = |n: usize| -> Option<Vec<f32>> {
        let taken: Vec<f32> = numbers.by_ref().take(n).collect::<Result<_, _>>().ok()?;
        (taken.len() == n).then_some(taken)
    };
    let mut network = || {
        let head = take(2)?;
        let (features, hidden) = (head[0] as usize, head[1] as usize);
        if features != features::COUNT || hidden > WIDEST {
            return None;
        }
        Some(Network {
            hidden,
            weights: take(features * hidden)?,
            biases: take(hidden)?,
            output: take(hidden)?,
            bias: take(1)?[0],
        })
    };
    Some([network()?, network()?])
}

/// The score of one row of features; main text above 0.
fn score(model: &Network, row: &[f32]) -> f32 {
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
pub fn choose(page: &Page, rows: &[f32], signs: PageSigns) -> Vec<bool> {
    let article = is_article(signs);
    let model = &networks()[usize::from(article)];
    debug_assert_eq!(rows.len(), page.blocks.len() * features::COUNT);
    let scores: Vec<f32> =
        rows.chunks_exact(features::COUNT).map(|row| score(model, row)).collect();
    keep(page, &scores, article)
}

/// The blocks to keep by their scores, of a page that says of itself that it is an article or not:
/// what `decide` chooses, without the byline, and what repeats itself once.
pub fn keep(page: &Page, scores: &[f32], article: bool) -> Vec<bool> {
    let sizes: Vec<f32> = page.blocks.iter().map(|b| b.words as f32).collect();
    let mut keep = decide(scores, &sizes, recall_of(article));
    if let Some(byline) = byline::of_page(page) {
        keep[byline] = false;
    }
    let may_repeat = |kind| matches!(kind, Kind::Listing | Kind::Row);
    let blocks = page.blocks.iter().zip(&keep);
    let texts = blocks.map(|(b, k)| if *k && !may_repeat(b.kind) { page.text_of(b) } else { "" });
    let again = repeats::of_texts(texts);
    keep.iter_mut().zip(again).for_each(|(keep, again)| *keep &= !again);
    keep
}

/// Whether a page says of itself that it is an article, and nothing else.
pub fn is_article(signs: PageSigns) -> bool {
    signs.article && !signs.forum && !signs.product
}

/// What recall is worth beside precision. An article has one text, and what is doubtful beside it
/// is rarely part of it; of shops, threads and listings nearly all that is doubtful is. The number
/// is the middle of those that did equally well on pages that the model was not made from.
fn recall_of(article: bool) -> f32 {
    if article { 0.6 } else { 1.0 }
}

/// Keeps the blocks that make the expected F score of the kept words greatest: taking the scores as
/// log odds, blocks are added from the likeliest on while that helps. On a clear page this cuts near
/// even odds; where nothing is likely it still keeps what is likeliest. `recall` is the weight of
/// recall, 1 for F1.
fn decide(scores: &[f32], sizes: &[f32], recall: f32) -> Vec<bool> {
    let odds: Vec<f32> = scores.iter().map(|s| 1.0 / (1.0 + (-s).exp())).collect();
    let expected: f32 = odds.iter().zip(sizes).map(|(p, n)| p * n).sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let (mut hit, mut kept, mut best, mut cut) = (0.0, 0.0, 0.0, 0);
    for (i, &block) in order.iter().enumerate() {
        hit += odds[block] * sizes[block];
        kept += sizes[block];
        let score = (1.0 + recall) * hit / (kept + recall * expected).max(1e-6);
        if score > best {
            (best, cut) = (score, i + 1);
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
        let models = parse(include_str!("model.txt")).expect("the shipped model is well formed");
        assert!(models.iter().all(|m| m.hidden > 0));
        assert!(models.iter().flat_map(|m| &m.weights).all(|w| w.is_finite()));
    }

    #[test]
    fn the_cut_maximises_expected_f1() {
        // clear: even odds; unclear: the likeliest; nothing: nothing
        assert_eq!(decide(&[5.0, -5.0, 4.0], &[9.0, 9.0, 9.0], 1.0), [true, false, true]);
        assert_eq!(decide(&[-1.0, -4.0, -4.0], &[30.0, 9.0, 9.0], 1.0), [true, false, false]);
        assert_eq!(decide(&[], &[], 1.0), [false; 0]);
    }

    #[test]
    fn broken_models_are_refused() {
        assert!(parse("").is_none());
        assert!(parse("3 2\n0 0").is_none());
        assert!(parse("x y").is_none());
    }
}
