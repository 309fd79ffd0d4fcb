//! From the mean of a text's rows to probabilities of labels: softmax, one against all, or the
//! Huffman tree of the hierarchical softmax.
//!
//! Probabilities are those that fastText prints: it adds 1e-5 below the logarithm, at every branch
//! of the tree. Not here: where the mean comes from.

use super::matrix::Matrix;

/// What fastText adds to a probability before its logarithm is taken.
const EPSILON: f32 = 1e-5;
/// The table of the logistic function: half its range, and its steps.
const SIGMOID_RANGE: f32 = 8.0;
const SIGMOID_STEPS: usize = 512;

/// How outputs become probabilities.
pub(super) enum Output {
    Softmax,
    /// Each label by itself (`ova` and `ns`), from the original's table.
    Alone,
    Tree(Vec<Branch>),
}

/// An inner node of the tree: its children are below the number of labels where they are labels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    left: usize,
    right: usize,
}

fn logarithm(probability: f32) -> f32 {
    (probability + EPSILON).ln()
}

/// The original's table, computed where it is read.
fn logistic(x: f32) -> f32 {
    if x < -SIGMOID_RANGE {
        return 0.0;
    }
    if x > SIGMOID_RANGE {
        return 1.0;
    }
    let step = ((x + SIGMOID_RANGE) * SIGMOID_STEPS as f32 / SIGMOID_RANGE / 2.0) as usize;
    let at = step as f32 * 2.0 * SIGMOID_RANGE / SIGMOID_STEPS as f32 - SIGMOID_RANGE;
    1.0 / (1.0 + (-at).exp())
}

/// The Huffman tree over labels sorted by falling count, as the original builds it.
pub(super) fn tree(counts: &[i64]) -> Result<Vec<Branch>, String> {
    if let Some(at) = counts.windows(2).position(|w| w[0] < w[1]) {
        return Err(format!(
            "labels are not sorted by their counts: {} before {}",
            counts[at],
            counts[at + 1]
        ));
    }
    let labels = counts.len();
    let mut weights: Vec<i64> = counts.to_vec();
    let mut branches = Vec::with_capacity(labels.saturating_sub(1));
    let (mut leaves, mut node) = (labels, labels);
    while branches.len() + 1 < labels {
        let mut lightest = || {
            let inner = weights.get(node);
            if leaves > 0 && inner.is_none_or(|inner| weights[leaves - 1] < *inner) {
                leaves -= 1;
                leaves
            } else {
                node += 1;
                node - 1
            }
        };
        let (left, right) = (lightest(), lightest());
        weights.push(weights[left].saturating_add(weights[right]));
        branches.push(Branch { left, right });
    }
    Ok(branches)
}

impl Output {
    /// The `most` likeliest labels with their probabilities, likeliest first.
    pub fn best(
        &self,
        matrix: &Matrix,
        file: &[u8],
        mean: &[f32],
        labels: usize,
        most: usize,
    ) -> Vec<(usize, f32)> {
        let product = |row: usize| matrix.dot(file, row, mean);
        let mut scores: Vec<(usize, f32)> = match self {
            Output::Tree(branches) => return descend(branches, labels, most, product),
            Output::Alone => (0..labels).map(|l| (l, logistic(product(l)))).collect(),
            Output::Softmax => {
                let mut scores: Vec<f32> = (0..labels).map(product).collect();
                let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores.iter_mut().for_each(|s| *s = (*s - top).exp());
                let sum: f32 = scores.iter().sum();
                scores.into_iter().map(|s| s / sum).enumerate().collect()
            }
        };
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if most < scores.len() {
            scores.select_nth_unstable_by(most, order);
            scores.truncate(most);
        }
        scores.sort_unstable_by(order);
        scores.iter_mut().for_each(|(_, score)| *score = (*score + EPSILON).clamp(0.0, 1.0));
        scores
    }
}

/// Walks down the tree, the likelier side first, and leaves what cannot be among the best. A list
/// stands for the recursion: hostile counts make a tree as deep as there are labels.
fn descend(
    branches: &[Branch],
    labels: usize,
    most: usize,
    product: impl Fn(usize) -> f32,
) -> Vec<(usize, f32)> {
    let mut found: Vec<(usize, f32)> = Vec::with_capacity(most + 1);
    let mut open = vec![(labels + branches.len() - 1, 0f32)];
    while let Some((node, score)) = open.pop() {
        if most == 0 || (found.len() == most && score < found[most - 1].1) {
            continue;
        }
        let Some(inner) = node.checked_sub(labels) else {
            let at = found.partition_point(|(_, other)| *other >= score);
            found.insert(at, (node, score));
            found.truncate(most);
            continue;
        };
        let Branch { left, right } = branches[inner];
        let right_share = 1.0 / (1.0 + (-product(inner)).exp());
        let mut sides =
            [(left, score + logarithm(1.0 - right_share)), (right, score + logarithm(right_share))];
        if right_share > 0.5 {
            sides.swap(0, 1);
        }
        open.extend([sides[1], sides[0]]);
    }
    found.into_iter().map(|(label, score)| (label, score.exp().clamp(0.0, 1.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_three() {
        let branches = tree(&[5, 2, 1]).unwrap();
        assert_eq!((branches[0].left, branches[0].right), (2, 1));
        assert_eq!((branches[1].left, branches[1].right), (3, 0));
        assert!(tree(&[1, 2]).unwrap_err().contains("1 before 2"));
        assert!(tree(&[]).unwrap().is_empty() && tree(&[3]).unwrap().is_empty());
        assert_eq!(tree(&[i64::MAX; 3]).unwrap().len(), 2);
    }

    #[test]
    fn a_chain_of_labels_is_no_recursion() {
        let mut counts: Vec<i64> = (0..60).map(|n| 1i64 << n).rev().collect();
        counts.extend(std::iter::repeat_n(0, 200_000));
        let branches = tree(&counts).unwrap();
        let found = descend(&branches, counts.len(), 2, |_| 3.0);
        assert_eq!(found.len(), 2);
        assert!(found[0].1 >= found[1].1);
    }
}
