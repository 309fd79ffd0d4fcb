//! The clock of measurements on one core: processor time of the calling thread where the system
//! tells it, so that other work on the machine does not count; else time by the wall.

use std::time::Instant;

/// Seconds that `work` took, `passes` times, in ascending order.
pub fn seconds(passes: usize, mut work: impl FnMut()) -> Vec<f64> {
    let mut seconds: Vec<f64> = (0..passes).map(|_| once(&mut work)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// The middle one of ascending numbers; not a number where there is none.
pub fn median(ascending: &[f64]) -> f64 {
    ascending.get(ascending.len() / 2).copied().unwrap_or(f64::NAN)
}

fn once(work: &mut impl FnMut()) -> f64 {
    let (wall, before) = (Instant::now(), processor());
    work();
    match (before, processor()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => wall.elapsed().as_secs_f64(),
    }
}

/// Processor seconds of this thread so far, as Linux tells them.
fn processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_pass_is_as_long_as_its_work() {
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
        };
        let found = seconds(3, work);
        assert_eq!(found.len(), 3);
        assert!(found.is_sorted() && found.iter().all(|s| *s > 0.0 && *s < 60.0), "{found:?}");
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
