//! A stage in which the context grows (paper, section 3.4.2), as a table of the recipe: how far,
//! with which rotary frequencies, and the gate that ends it. What is trained in it is a table of
//! its own, as of the first pre-training. Not the measuring: that is `stage::extend`.

use crate::recipe::{Scaling, Shape};
use quipu_eval::needle::Grid;
use serde::{Deserialize, Serialize};

/// One stage; a recipe has them in order, each begins where the one before it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// positions that the model has from this stage on
    pub positions: usize,
    /// base of the rotary embedding from this stage on; none: as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// how the rotary frequencies are changed from this stage on; none: as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<Scaling>,
    /// when the stage has reached what it is for
    pub gate: Gate,
    /// what is trained; its steps are the most that the stage takes
    pub train: quipu_train::Recipe,
}

/// The paper's two conditions: what was known of short texts is known as well as before, and
/// needles are found in long ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// tokens of the texts in which needles are looked for
    pub lengths: Vec<usize>,
    /// depths at which they lie, from the beginning to the end
    pub depths: usize,
    /// needles of each length and depth
    pub needles: usize,
    /// the sentence that is hidden, with `{number}`
    #[serde(default = "needle")]
    pub needle: String,
    /// share of them that must be found at each length
    pub recall: f64,
    /// steps between measurements; the last step always has one
    pub every: u64,
    /// what is done where the steps are spent before
    #[serde(default)]
    pub at_cap: AtCap,
}

/// What is hidden where a recipe does not say it.
fn needle() -> String {
    "The password is #{number}.".into()
}

/// What a run does when a stage ends without having passed its gate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AtCap {
    /// It ends, with an error that says what is missing; `--allow-cap` goes on.
    #[default]
    Stop,
    /// It goes on, and says so.
    GoOn,
}

impl Gate {
    /// Which needles are looked for.
    pub fn grid(&self) -> Grid {
        Grid {
            lengths: self.lengths.clone(),
            depths: self.depths,
            needles: self.needles,
            needle: self.needle.clone(),
        }
    }
}

impl Extension {
    /// The model's shape from this stage on.
    pub fn applied(&self, before: &Shape) -> Shape {
        Shape {
            positions: self.positions,
            rope_theta: self.rope_theta.unwrap_or(before.rope_theta),
            rope_scaling: self.rope_scaling.or(before.rope_scaling),
            ..before.clone()
        }
    }

    /// Refuses what cannot be, by key below the stage's table; what of the model and of training
    /// cannot be, others say.
    pub fn check(&self, before: &Shape) -> Result<(), (String, String)> {
        let no = |key: &str, message: String| Err((key.to_owned(), message));
        if self.positions < before.positions {
            let (found, least) = (self.positions, before.positions);
            let message = format!("{found} positions are fewer than the {least} before this stage");
            return no("positions", message);
        }
        if let Some((key, found, expected)) = self.gate.grid().fault(self.positions) {
            return no(&format!("gate.{key}"), format!("it is {found}; it must be {expected}"));
        }
        if !(self.gate.recall > 0.0 && self.gate.recall <= 1.0) {
            let message = format!("{} is no share above 0", self.gate.recall);
            return no("gate.recall", message);
        }
        if self.gate.every == 0 {
            return no("gate.every", "it must be at least 1".into());
        }
        if self.train.average.is_some() {
            let message = "a stage that a gate ends has no last steps to average; it goes with \
                           [anneal]";
            return no("train.average", message.into());
        }
        Ok(())
    }
}
