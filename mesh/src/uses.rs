//! One table says who uses which axis: every communication of the program has a row here, and a
//! rank has one group for each. Nothing else builds groups, so that "who must agree" is read in one
//! place (paper §3.3.2).

use crate::axes::Axis;

/// Why ranks communicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Activations of split matrices: gather before, reduce-scatter after.
    Activations,
    /// The vocabulary-parallel loss: log-sum-exp and target logits.
    Vocabulary,
    /// Keys and values of the whole sequence, and their gradients back.
    KeyValues,
    /// Hidden states and their gradients between pipeline stages.
    Stages,
    /// Gradients: the same parameters, other tokens. Of the ranks that share out states, where these
    /// are a part of them ([`crate::Sharing`]).
    Gradients,
    /// Gradients of parameters that tensor parallelism replicates (norms, some biases).
    Replicated,
    /// Updated parameters, after each rank stepped its part: of the same ranks as gradients. With full
    /// sharding, before each use.
    Parameters,
    /// Sums of losses and token counts over the batch.
    Losses,
    /// The squared norm of the gradient over every parameter.
    Norm,
    /// What all ranks must share: start, stop, checkpoints.
    World,
    /// Gradients of keys' and values' projections, of a head whose queries are on several tensor-parallel
    /// ranks: of those ranks.
    SharedHeads,
    /// Gradients of an embedding that is also the output head: of the first and the last stage.
    Tied,
    /// Log-probabilities of whole rows, where what is learned is no sum over tokens.
    LogProbs,
    /// Gradients that the ranks with the same part of the states have summed, in hybrid groups.
    Replicas,
}

/// Every use with its name and the axes along which its ranks differ. Of shared heads and
/// a tied embedding it is a part of the ranks along that axis, which the model knows: `Mesh::part`.
pub const USES: [(Use, &str, &[Axis]); 14] = [
    (Use::Activations, "activations", &[Axis::Tp]),
    (Use::Vocabulary, "vocabulary", &[Axis::Tp]),
    (Use::KeyValues, "key-values", &[Axis::Cp]),
    (Use::Stages, "stages", &[Axis::Pp]),
    (Use::Gradients, "gradients", &[Axis::Cp, Axis::Dp]),
    (Use::Replicated, "replicated", &[Axis::Tp]),
    (Use::Parameters, "parameters", &[Axis::Cp, Axis::Dp]),
    (Use::Losses, "losses", &[Axis::Cp, Axis::Pp, Axis::Dp]),
    (Use::Norm, "norm", &[Axis::Tp, Axis::Cp, Axis::Pp, Axis::Dp]),
    (Use::World, "world", &[Axis::Tp, Axis::Cp, Axis::Pp, Axis::Dp]),
    (Use::SharedHeads, "shared-heads", &[Axis::Tp]),
    (Use::Tied, "tied", &[Axis::Pp]),
    (Use::LogProbs, "log-probabilities", &[Axis::Cp, Axis::Pp]),
    (Use::Replicas, "replicas", &[Axis::Cp, Axis::Dp]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_use() {
        for (i, (usage, name, axes)) in USES.iter().enumerate() {
            assert_eq!(*usage as usize, i, "{name}");
            assert!(!axes.is_empty() && axes.is_sorted(), "{name}");
        }
    }
}
