//! How many floating-point operations a token costs, counted from the configuration. The
//! convention is the paper's usual one and is named with each number: a fused multiply-add is two,
//! attention is causal (half of the square), norms and other small ops are left out.

use crate::config::Config;

impl Config {
    /// Parameters that a token is multiplied with: all matrices, without the embedding's look-up.
    pub fn matmul_parameters(&self) -> usize {
        let (d, q, kv) = (self.hidden_size, self.query_width(), self.kv_width());
        let layer = d * (q + 2 * kv) + q * d + 3 * d * self.intermediate_size;
        self.layers * layer + self.vocab_size * d
    }

    /// FLOPs of the forward pass for one token with `context` tokens before and including it on
    /// average /2: 2 × matrices + 2·2·L·H·hd·context/2.
    pub fn forward_flops(&self, context: usize) -> f64 {
        let attention = 2.0 * self.layers as f64 * self.query_width() as f64 * context as f64;
        2.0 * self.matmul_parameters() as f64 + attention
    }

    /// FLOPs of forward and backward for one token in documents of `context` tokens: three times
    /// the forward pass.
    pub fn training_flops(&self, context: usize) -> f64 {
        3.0 * self.forward_flops(context)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Sizes};

    #[test]
    fn the_405b_at_8k() {
        let config = Config::new(Sizes {
            vocab_size: 128_256,
            hidden_size: 16_384,
            intermediate_size: 53_248,
            layers: 126,
            heads: 128,
            kv_heads: 8,
            max_positions: 8192,
            tied: false,
        })
        .unwrap();
        // forward and backward, causal: 6·(L·layer + V·d) + 12·L·s·d/2
        let flops = config.training_flops(8192);
        assert!((flops / 2.524e12 - 1.0).abs() < 1e-3, "{flops:e}");
    }
}
