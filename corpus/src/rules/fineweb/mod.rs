//! The rules that FineWeb (Penedo et al. 2024, §3.6) adds to Gopher's and C4's; off by default.
//!
//! Thresholds are those of the code that made the data set. Of characters in repeated lines the
//! paper names 0.1 and the code has 0.01; we follow the code. Lines are those that are not blank.

pub mod line_ends;
pub mod lists;
pub mod repeated_chars;
pub mod short_lines;
