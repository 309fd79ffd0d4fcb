//! `repeated-content` and `repeated-line-content`: lines that consist of repeated content, such as
//! logs and error messages.
//!
//! Source: the paper applies Gopher's duplicated n-gram coverage to lines (§3.1.1), since such lines
//! can be long and each of them unique, which no deduplication of lines sees. Ours, over words where
//! every run of numbers and identifiers counts as one and the same word: a line goes where
//! (a) it has at least 30 words, and sequences of 4 that stood before in this line cover more than
//! half of its letters; or (b) it has a number and at least 8 words, and sequences of 4 that at least
//! 4 different lines of the text have cover more than 0.6 of its letters, and at least 6 lines are of
//! this kind. Equal lines count as one, so that a refrain stays; rows of tables (with tabs) stay, and
//! so do listings, since code is not judged. The document goes where such lines have more than half
//! of its letters. Thresholds: set on made-up logs against novels (no line), articles in 29 languages
//! (no line) and the pages of a crawl, where rows of prices, of specifications and of references go.

use super::grams::{Table, each_gram, with_table};
use super::{Judge, Line, LineRule, PROSE, Rule, Set, View};
use xxhash_rust::xxh3::xxh3_64;

const N: usize = 4;
const MIN_WORDS: usize = 8;
const MIN_WORDS_WITHIN: usize = 30;
const MAX_WITHIN: f32 = 0.5;
const MIN_LINES_OF_A_GRAM: u32 = 4;
const MAX_ACROSS: f32 = 0.6;
const MIN_LINES: usize = 6;
const MAX_OF_DOCUMENT: f32 = 0.5;
/// What stands for numbers and identifiers.
const NUMBER: u64 = 0x6e75_6d62_6572_2121;

pub(super) const RULE: Rule = Rule {
    name: "repeated-content",
    set: Set::Llama3,
    reason: "Lines made by one template with other numbers in it are output, not language.",
    limit: || format!("above {MAX_OF_DOCUMENT} of the letters stand in such lines"),
    routes: PROSE,
    check,
};

pub(super) const LINE_RULE: LineRule = LineRule {
    name: "repeated-line-content",
    set: Set::Llama3,
    reason: "A log or a row of messages within a text has nothing to learn but its numbers.",
    limit: || {
        format!(
            "above {MAX_WITHIN} of a line's letters are repeated within it, or above {MAX_ACROSS} \
             stand in {MIN_LINES_OF_A_GRAM} lines or more, and {MIN_LINES} lines are so"
        )
    },
    routes: PROSE,
    find,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let bad = found(view);
    let letters =
        |line: &Line| -> u32 { view.words[line.words()].iter().map(|w| u32::from(w.chars)).sum() };
    let of_bad: u32 = bad.iter().map(|(line, _)| letters(&view.lines[*line])).sum();
    let share = of_bad as f32 / view.word_chars().max(1) as f32;
    (share > judge.most(MAX_OF_DOCUMENT)).then_some(share)
}

/// The words of a line as (hash, letters), with every run of numbers as one.
fn masked<'v>(view: &'v View, line: &Line) -> impl Iterator<Item = (u64, u32)> + Clone + 'v {
    let words = &view.words[line.words()];
    let runs_on = |at: usize| at > 0 && words[at].digits && words[at - 1].digits;
    words.iter().enumerate().filter(move |(at, _)| !runs_on(*at)).map(|(_, word)| {
        match word.digits {
            true => (NUMBER, 0),
            false => (word.hash, u32::from(word.chars)),
        }
    })
}

fn find(view: &View) -> Vec<(usize, f32)> {
    found(view).to_vec()
}

/// What both rules ask, looked for once.
fn found<'v>(view: &'v View) -> &'v [(usize, f32)] {
    view.repeated_content.get_or_init(|| look(view))
}

fn look(view: &View) -> Vec<(usize, f32)> {
    let mut found = Vec::new();
    // The letters of each masked word, used again for each line.
    let mut letters: Vec<u32> = Vec::new();
    let open = |line: &&Line| line.words().len() >= MIN_WORDS && !view.line(line).contains('\t');
    let numbered = |line: &&Line| line.digits > 0 && open(line);
    if view.lines.iter().filter(numbered).take(MIN_LINES).count() == MIN_LINES {
        with_table(view.words.len() + view.lines.len(), |table| {
            view.lines.iter().filter(numbered).for_each(|line| enter(view, line, table));
            for (at, line) in view.lines.iter().enumerate().filter(|(_, l)| numbered(l)) {
                let shared = |gram| table.get(gram) >= MIN_LINES_OF_A_GRAM;
                let share = share(view, line, &mut letters, shared);
                if share > MAX_ACROSS {
                    found.push((at, share));
                }
            }
        });
        if found.len() < MIN_LINES {
            found.clear();
        }
    }
    let long = |line: &&Line| line.words().len() >= MIN_WORDS_WITHIN && open(line);
    for (at, line) in view.lines.iter().enumerate().filter(|(_, l)| long(l)) {
        let share = with_table(line.words().len(), |table| {
            let before = |gram| std::mem::replace(table.count(gram), 1) > 0;
            share(view, line, &mut letters, before)
        });
        if share > MAX_WITHIN {
            found.push((at, share));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.dedup_by_key(|(at, _)| *at);
    found
}

/// Counts the sequences of a line, each once, unless the very same line was there.
fn enter(view: &View, line: &Line, table: &mut Table) {
    let same = table.count(xxh3_64(view.line(line).as_bytes()));
    *same += 1;
    if *same > 1 {
        return;
    }
    let mut grams: Vec<u64> = Vec::with_capacity(line.words().len());
    each_gram(masked(view, line).map(|w| w.0), N, |_, gram| grams.push(gram));
    grams.sort_unstable();
    grams.dedup();
    grams.into_iter().for_each(|gram| *table.count(gram) += 1);
}

/// Share of a line's letters that stand in sequences of which `repeated` says yes; 0 for lines that
/// are too short without their numbers.
fn share(
    view: &View,
    line: &Line,
    letters: &mut Vec<u32>,
    mut repeated: impl FnMut(u64) -> bool,
) -> f32 {
    letters.clear();
    letters.extend(masked(view, line).map(|w| w.1));
    if letters.len() < MIN_WORDS {
        return 0.0;
    }
    let (mut sum, mut until) = (0u32, 0);
    each_gram(masked(view, line).map(|w| w.0), N, |at, gram| {
        if repeated(gram) {
            sum += letters[at.max(until)..at + N].iter().sum::<u32>();
            until = at + N;
        }
    });
    sum as f32 / letters.iter().sum::<u32>().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::super::tests::{self, PROSE_SAMPLE, check_lines};
    use super::*;

    fn log_line(n: usize) -> String {
        let words = ["opened", "closed", "kept", "lost", "found"][n % 5];
        format!(
            "{} worker {} {words} the connection to host 10.0.{n}.7 after {} ms\n",
            n * 977,
            n,
            n * n
        )
    }

    #[test]
    fn pair() {
        let log: String = (0..30).map(log_line).collect();
        tests::check(&RULE, &log, true);
        tests::check(&RULE, &format!("{PROSE_SAMPLE}\n{}", log_line(1)), false);
        let verse = |n: usize| {
            format!(
                "The boats of the year {n} are gone, and gone are their men, oh!\n\
                In {n} we sang of the herring, the wind and the wide grey sea.\n"
            )
        };
        let song: String = (1..4).map(verse).chain([PROSE_SAMPLE.to_owned()]).collect();
        tests::check(&RULE, &song, false);
    }

    #[test]
    fn a_log_goes_out_of_prose_and_the_prose_stays() {
        let log: String = (0..8).map(log_line).collect();
        let text = format!("{PROSE_SAMPLE}\n\n{log}\n{PROSE_SAMPLE}");
        let first = PROSE_SAMPLE.lines().count() as u32 + 1;
        check_lines(&LINE_RULE, &text, &(first..first + 8).collect::<Vec<_>>());
        let few: String = (0..4).map(log_line).collect();
        check_lines(&LINE_RULE, &format!("{PROSE_SAMPLE}\n\n{few}"), &[]);
    }

    #[test]
    fn a_long_line_that_repeats_itself_goes() {
        let errors: String =
            (0..20).map(|n| format!("error {n}: cannot open the file; ")).collect();
        check_lines(&LINE_RULE, &format!("{PROSE_SAMPLE}\n{errors}"), &[3]);
        let list = "Present were the mayor, the clerk, the smith and his son, the baker, the two \
            teachers of the lower school, the priest, the widow of the old mayor, the miller, and \
            the miller's brother, who spoke first and for longest of the water and of the weir.";
        check_lines(&LINE_RULE, list, &[]);
    }

    #[test]
    fn refrains_and_tables_stay() {
        let refrain = "Oh the 7 boats, they come home to the harbour tonight.\n".repeat(9);
        check_lines(&LINE_RULE, &refrain, &[]);
        let row = |n: usize| format!("{n}\tcrates of mackerel sold\tto the house of Orme\t{n}\n");
        check_lines(&LINE_RULE, &(0..20).map(row).collect::<String>(), &[]);
    }
}
