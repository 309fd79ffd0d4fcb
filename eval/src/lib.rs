//! harness, examinations, baselines, contamination
