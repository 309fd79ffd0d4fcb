//! The automation.

fn main() {}
