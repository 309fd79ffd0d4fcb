//! a simulated world that can be crawled, taught and examined
