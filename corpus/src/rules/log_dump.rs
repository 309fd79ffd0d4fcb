//! `log-dump`: server logs, traces and machine output put on the web.
//!
//! Source: the paper names logs and error messages as what n-gram coverage is to catch (§3.1.1);
//! their lines are all different, so this looks at how lines begin. Formula: share of lines that
//! begin with a date, a time or an address, or carry a level in capitals. Threshold: above 0.5,
//! from 8 lines on. Three lines of a log quoted in prose stay.

use super::{EVERY, Judge, Rule, Set, View};

const MAX_SHARE: f32 = 0.5;
const MIN_LINES: usize = 8;
const LEVELS: [&str; 8] = ["INFO", "WARN", "WARNING", "ERROR", "DEBUG", "TRACE", "FATAL", "NOTICE"];

pub(super) const RULE: Rule = Rule {
    name: "log-dump",
    set: Set::Llama3,
    reason: "Logs are written by machines for machines; their identifiers cannot be learned.",
    limit: || format!("above {MAX_SHARE} of {MIN_LINES} lines or more begin as lines of logs do"),
    routes: EVERY,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    if view.lines.len() < MIN_LINES {
        return None;
    }
    let logged =
        view.lines.iter().filter(|l| l.digits > 0 && is_log_line(view.line(l), l.digits)).count();
    let share = logged as f32 / view.lines.len() as f32;
    (share > judge.most(MAX_SHARE)).then_some(share)
}

fn is_log_line(line: &str, digits: u32) -> bool {
    // A date alone also begins the lines of a chronicle: a level or more figures must follow.
    let detail = digits as usize * 6 > line.len();
    if !detail && digits < 4 {
        return false;
    }
    let start: String = line.chars().take(48).collect();
    let mut fields = start.split_whitespace();
    let first = fields.next().unwrap_or_default().trim_start_matches(['[', '(', '<']);
    let digits = first.bytes().filter(u8::is_ascii_digit).count();
    let stamp = digits >= 4 && first.contains([':', '-', '.', '/']) && digits * 2 >= first.len();
    let words = start.split(|c: char| !c.is_ascii_alphanumeric());
    let level = words.take(8).any(|w| LEVELS.contains(&w));
    (stamp && (level || detail)) || (level && detail)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        let line = |n: usize| {
            format!(
                "2024-03-{:02} 12:{:02}:07,113 WARN [db.pool-{n}] retry id={n:08x}\n",
                n % 28,
                n
            )
        };
        let log: String = (0..40).map(line).collect();
        tests::check(&RULE, &log, true);
        let quoted = format!("{}\n\n{}{}", tests::PROSE_SAMPLE, line(1), line(2));
        tests::check(&RULE, &quoted, false);
        let chronicle = "1912: The bridge over the river was opened by the mayor of the town.\n";
        tests::check(&RULE, &chronicle.repeat(10), false);
    }
}
