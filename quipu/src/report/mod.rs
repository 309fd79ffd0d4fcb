//! The report of a run: `report.json` has everything, `report.html` shows it. It reads what the
//! stages left behind and measures nothing itself. Beside it the page on which runs are compared.

mod bars;
mod chart;
mod compared;
mod corpus;
mod grown;
mod html;
mod learned;
pub mod spoken;

pub use compared::compared;
pub use corpus::curated;
pub use html::page;
