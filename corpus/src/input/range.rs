//! stub
use serde::{Deserialize, Serialize};
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}
