//! The table of rotary angles: cos and sin for each position and pair, in f64, cast once by the
//! device. θ and the frequency scaling of Llama 3.1 (in the released code only; oracle O-3).
//! It is not the rotation, which is an op of `math`.

use crate::config::{Config, RopeScaling};

/// The head_dim/2 frequencies in radians per position, scaled.
pub fn frequencies(config: &Config) -> Vec<f64> {
    let pairs = config.head_dim / 2;
    (0..pairs)
        .map(|i| {
            let exponent = -2.0 * i as f64 / config.head_dim as f64;
            scale(config.rope_theta.powf(exponent), config.rope_scaling)
        })
        .collect()
}

/// Wavelengths above original/low are stretched by the factor, those below original/high are not;
/// between the two the frequency is blended linearly in original/wavelength.
fn scale(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor: low,
            high_freq_factor: high,
            original_max_position_embeddings: original,
        } => {
            let turns = original as f64 * frequency / std::f64::consts::TAU;
            if turns < low {
                frequency / factor
            } else if turns > high {
                frequency
            } else {
                let smooth = (turns - low) / (high - low);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}

/// Row p is cos(p·f₀) … cos(p·f_{n−1}) | sin(p·f₀) … sin(p·f_{n−1}), for p below `positions`.
pub fn table(config: &Config, positions: usize) -> Vec<f64> {
    let frequencies = frequencies(config);
    let mut table = Vec::with_capacity(positions * config.head_dim);
    for position in 0..positions {
        let angles = || frequencies.iter().map(|f| position as f64 * f);
        table.extend(angles().map(f64::cos));
        table.extend(angles().map(f64::sin));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sizes;

    fn check(i: usize, plain: f64, scaled: f64) {
        let sizes = Sizes {
            vocab_size: 8,
            hidden_size: 128,
            intermediate_size: 8,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            max_positions: 8,
            tied: true,
        };
        let mut config = Config::new(sizes).unwrap();
        assert!((frequencies(&config)[i] / plain - 1.0).abs() < 1e-6, "f{i} plain");
        config.rope_scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        assert!((frequencies(&config)[i] / scaled - 1.0).abs() < 1e-6, "f{i} scaled");
    }

    #[test]
    fn the_frequencies_of_llama_3_1() {
        check(0, 1.0, 1.0);
        check(28, 3.211446e-3, 3.211446e-3);
        check(29, 2.616099e-3, 2.166571e-3);
        check(32, 1.414214e-3, 5.248462e-4);
        check(35, 7.644970e-4, 9.556212e-5);
        check(63, 2.455141e-6, 3.068926e-7);
    }
}
