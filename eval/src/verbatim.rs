//! The longest span of a sample that stands verbatim in the training text: how much of what a model
//! says it has merely kept. Words between blanks are compared, exactly. The samples, which are few,
//! become suffix automata; the training text streams through them once. Not here: contamination of
//! examinations.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A span of a sample that stands in a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its words; 0 where no word of the sample occurs.
    pub words: usize,
    /// Words of the sample.
    pub of: usize,
    /// The span.
    pub text: String,
    /// The first document that has it, as 32 hexadecimal digits; empty for none.
    pub document: String,
}

/// A state of a suffix automaton: a set of substrings that end at the same places.
#[derive(Debug, Clone, Default)]
struct State {
    next: HashMap<u32, usize>,
    link: Option<usize>,
    length: usize,
    /// place in the sample behind one occurrence
    end: usize,
}

#[derive(Debug)]
struct Automaton {
    states: Vec<State>,
    /// longest match so far: length, end in the sample, document
    best: (usize, usize, u128),
}

impl Automaton {
    fn new(words: &[u32]) -> Self {
        let mut automaton = Self { states: vec![State::default()], best: (0, 0, 0) };
        let mut last = 0;
        for (at, word) in words.iter().enumerate() {
            last = automaton.extend(last, *word, at + 1);
        }
        automaton
    }

    fn extend(&mut self, last: usize, word: u32, end: usize) -> usize {
        let new = self.states.len();
        let length = self.states[last].length + 1;
        self.states.push(State { length, end, ..State::default() });
        let mut at = Some(last);
        while let Some(state) = at.filter(|s| !self.states[*s].next.contains_key(&word)) {
            self.states[state].next.insert(word, new);
            at = self.states[state].link;
        }
        let Some(from) = at else {
            self.states[new].link = Some(0);
            return new;
        };
        let to = self.states[from].next[&word];
        if self.states[to].length == self.states[from].length + 1 {
            self.states[new].link = Some(to);
            return new;
        }
        let copy = self.states.len();
        let length = self.states[from].length + 1;
        self.states.push(State { length, ..self.states[to].clone() });
        let mut at = Some(from);
        while let Some(state) = at.filter(|s| self.states[*s].next.get(&word) == Some(&to)) {
            self.states[state].next.insert(word, copy);
            at = self.states[state].link;
        }
        self.states[to].link = Some(copy);
        self.states[new].link = Some(copy);
        new
    }

    /// Streams a document; `None` is a word that no sample has.
    fn read(&mut self, document: u128, words: &[Option<u32>]) {
        let (mut state, mut length) = (0, 0);
        for word in words {
            let Some(word) = word else {
                (state, length) = (0, 0);
                continue;
            };
            while let (None, Some(link)) =
                (self.states[state].next.get(word), self.states[state].link)
            {
                state = link;
                length = self.states[state].length;
            }
            match self.states[state].next.get(word) {
                Some(next) => (state, length) = (*next, length + 1),
                None => (state, length) = (0, 0),
            }
            if length > self.best.0 {
                self.best = (length, self.states[state].end, document);
            }
        }
    }
}

/// For each sample its longest span that stands in any of the documents (id and text).
#[must_use]
pub fn longest_spans<T: AsRef<str>>(
    samples: &[&str],
    documents: impl Iterator<Item = (u128, T)>,
) -> Vec<Span> {
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut automata: Vec<Automaton> = Vec::with_capacity(samples.len());
    for sample in samples {
        let mut words = Vec::new();
        for word in sample.split_whitespace() {
            let next = ids.len() as u32;
            words.push(*ids.entry(word).or_insert(next));
        }
        automata.push(Automaton::new(&words));
    }
    let mut words = Vec::new();
    for (id, text) in documents {
        words.clear();
        words.extend(text.as_ref().split_whitespace().map(|word| ids.get(word).copied()));
        automata.iter_mut().for_each(|automaton| automaton.read(id, &words));
    }
    let span = |(sample, automaton): (&&str, Automaton)| {
        let words: Vec<&str> = sample.split_whitespace().collect();
        let (length, end, document) = automaton.best;
        Span {
            words: length,
            of: words.len(),
            text: words[end - length..end].join(" "),
            document: if length == 0 { String::new() } else { format!("{document:032x}") },
        }
    };
    samples.iter().zip(automata).map(span).collect()
}

/// The training documents of a folder of tokens as text, for [`longest_spans`].
pub fn training_texts(tokens: &quipu_tokens::Tokens) -> impl Iterator<Item = (u128, String)> + '_ {
    tokens.train.iter().flat_map(move |shard| {
        (0..shard.documents()).map(move |i| {
            let entry = shard.document(i);
            let mut ids = Vec::with_capacity(entry.tokens as usize);
            shard.read(entry.start..entry.start + entry.tokens, &mut ids);
            (entry.id, tokens.tokenizer.decode(&ids))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sample: &str, documents: &[&str], words: usize, text: &str, document: &str) {
        let numbered = (1_u128..).zip(documents.iter().copied());
        let spans = longest_spans(&[sample], numbered);
        assert_eq!((spans[0].words, spans[0].text.as_str()), (words, text));
        assert!(spans[0].document.ends_with(document));
    }

    #[test]
    fn known_spans() {
        check("a b c d", &["x b c y", "z b c d"], 3, "b c d", "2");
        check("a b a b a", &["b a b x a b a"], 3, "b a b", "1");
        check("a b", &["c"], 0, "", "");
        check("", &["c"], 0, "", "");
        check("a  b\nc", &["a b c"], 3, "a b c", "1");
        check("the end", &["The end"], 1, "end", "1");
    }

    fn slow(sample: &[&str], text: &[&str]) -> usize {
        let common = |i: usize, j: usize| {
            sample[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count()
        };
        let places = (0..sample.len()).flat_map(|i| (0..text.len()).map(move |j| (i, j)));
        places.map(|(i, j)| common(i, j)).max().unwrap_or(0)
    }

    #[test]
    fn agrees_with_a_search_of_every_place() {
        let mut state = 5_u64;
        let mut draw = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % n
        };
        for _ in 0..300 {
            let mut make = |n: usize| -> String {
                (0..n).map(|_| ["a", "b", "c"][draw(3)]).collect::<Vec<_>>().join(" ")
            };
            let (sample, text) = (make(12), make(30));
            let spans = longest_spans(&[&sample, "a"], [(7, &text)].into_iter());
            let split = |t: &str| t.split(' ').map(str::to_owned).collect::<Vec<_>>();
            let (s, t) = (split(&sample), split(&text));
            let (s, t): (Vec<&str>, Vec<&str>) =
                (s.iter().map(String::as_str).collect(), t.iter().map(String::as_str).collect());
            assert_eq!(spans[0].words, slow(&s, &t), "{sample} | {text}");
            let there = format!(" {text} ").contains(&format!(" {} ", spans[0].text));
            assert!(there && format!(" {sample} ").contains(&format!(" {} ", spans[0].text)));
        }
    }
}
