//! The report of a run: `report.json` has everything, `report.html` shows it. It reads what the
//! stages left behind and measures nothing itself.

mod bars;
mod chart;
mod corpus;
mod html;
mod learned;
pub mod spoken;

pub use corpus::curated;
pub use html::page;
