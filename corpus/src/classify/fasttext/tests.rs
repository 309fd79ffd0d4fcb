//! Small models written by hand, what they must say, and damaged ones.

use super::*;

/// What a model of the tests consists of.
#[derive(Clone)]
struct Sketch {
    version: i32,
    loss: i32,
    grams: [i32; 4],
    words: Vec<&'static str>,
    labels: Vec<(&'static str, i64)>,
    quantised: bool,
}

/// Word n-grams, buckets, shortest and longest subword.
const WORDS_ONLY: [i32; 4] = [1, 0, 0, 0];

fn sketch() -> Sketch {
    Sketch {
        version: 12,
        loss: 3,
        grams: WORDS_ONLY,
        words: vec!["</s>", "boat", "sea"],
        labels: vec![("__label__water", 5), ("__label__land", 4), ("__label__air", 1)],
        quantised: false,
    }
}

fn put32(out: &mut Vec<u8>, number: i32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_float(out: &mut Vec<u8>, number: f32) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Row `r` of a matrix of two columns is (r, 1); quantised, each part's centroid c is c.
fn put_matrix(out: &mut Vec<u8>, rows: i64, quantised: bool) {
    if quantised {
        out.push(1);
    }
    put64(out, rows);
    put64(out, 2);
    if !quantised {
        for row in 0..rows {
            put_float(out, row as f32);
            put_float(out, 1.0);
        }
        return;
    }
    put32(out, (rows * 2) as i32);
    (0..rows).for_each(|row| out.extend_from_slice(&[row as u8, 1]));
    put_quantiser(out, [2, 2, 1, 1]);
    out.extend(vec![2; rows as usize]);
    put_quantiser(out, [1, 1, 1, 1]);
}

fn put_quantiser(out: &mut Vec<u8>, shape: [i32; 4]) {
    shape.iter().for_each(|number| put32(out, *number));
    (0..shape[0] * 256).for_each(|n| put_float(out, (n % 256) as f32));
}

impl Sketch {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let [word_grams, buckets, shortest, longest] = self.grams;
        put32(&mut out, MAGIC);
        put32(&mut out, self.version);
        let head = [2, 5, 1, 1, 5, word_grams, self.loss, SUPERVISED, buckets, shortest, longest];
        head.iter().for_each(|number| put32(&mut out, *number));
        put32(&mut out, 100);
        out.extend_from_slice(&1e-4f64.to_le_bytes());
        let (words, labels) = (self.words.len() as i32, self.labels.len() as i32);
        [words + labels, words, labels].iter().for_each(|number| put32(&mut out, *number));
        put64(&mut out, 99);
        put64(&mut out, -1);
        let words = self.words.iter().map(|w| (*w, 7, 0));
        for (text, count, kind) in words.chain(self.labels.iter().map(|l| (l.0, l.1, 1))) {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
            put64(&mut out, count);
            out.push(kind);
        }
        out.push(u8::from(self.quantised));
        put_matrix(&mut out, self.words.len() as i64 + i64::from(buckets), self.quantised);
        out.push(0);
        put_matrix(&mut out, self.labels.len() as i64, false);
        out
    }
}

/// A model of two words, `Boot` and `boat`, in two languages, for the tests of the identifier.
pub(crate) fn two_words() -> Vec<u8> {
    let mut sketch = sketch();
    sketch.words = vec!["Boot", "boat"];
    sketch.labels = vec![("__label__deu_Latn", 2), ("__label__eng_Latn", 1)];
    let mut bytes = sketch.bytes();
    let rows: [f32; 4] = [10.0, 0.0, 0.0, 10.0];
    let one: Vec<u8> = rows.iter().flat_map(|number| number.to_le_bytes()).collect();
    // Both matrices end with their four numbers; one byte and two sizes lie between them.
    let end = bytes.len();
    bytes[end - 16..].copy_from_slice(&one);
    bytes[end - 49..end - 33].copy_from_slice(&one);
    bytes
}

fn check(sketch: &Sketch, text: &str, expected: &[(&str, f32)]) {
    let model = Model::parse(sketch.bytes()).unwrap();
    let found = model.predict(text, 9, &mut Scratch::default());
    let named: Vec<(&str, f32)> =
        found.iter().map(|(l, p)| (model.labels()[*l].as_str(), *p)).collect();
    assert_eq!(named.len(), expected.len(), "{named:?}");
    for (found, expected) in named.iter().zip(expected) {
        assert_eq!(found.0, expected.0, "{named:?}");
        assert!((found.1 - expected.1).abs() < 2e-5, "{named:?}");
    }
}

#[test]
fn a_softmax_by_hand() {
    // Rows 1, 2 and 0 (the end of the line): the mean is (1, 1); label l gets l + 1.
    let sum = 1.0 + 1f32.exp() + 2f32.exp();
    let expected = [("air", 2f32.exp() / sum), ("land", 1f32.exp() / sum), ("water", 1.0 / sum)];
    check(&sketch(), "boat\nsea", &expected);
    check(&sketch(), "boat unknown sea __label__air", &expected);
}

#[test]
fn labels_by_themselves() {
    let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
    let expected = [("air", logistic(3.0)), ("land", logistic(2.0)), ("water", logistic(1.0))];
    check(&Sketch { loss: 4, ..sketch() }, "boat sea", &expected);
    check(&Sketch { loss: 2, ..sketch() }, "boat sea", &expected);
}

#[test]
fn a_tree_by_hand() {
    // Branch 0 joins air and land, branch 1 that (left, equal counts: the inner node) and water.
    let logistic = |x: f32| 1.0 / (1.0 + (-x).exp());
    let (inner, root) = (logistic(1.0), logistic(2.0));
    let expected =
        [("water", root), ("land", (1.0 - root) * inner), ("air", (1.0 - root) * (1.0 - inner))];
    check(&Sketch { loss: 1, ..sketch() }, "boat sea", &expected);
}

#[test]
fn a_quantised_input_by_hand() {
    // Codes name centroids of their own number, norms are 2: the mean is (2, 2).
    let sum = 1.0 + 2f32.exp() + 4f32.exp();
    let expected = [("air", 4f32.exp() / sum), ("land", 2f32.exp() / sum), ("water", 1.0 / sum)];
    check(&Sketch { quantised: true, ..sketch() }, "boat sea", &expected);
}

#[test]
fn rows_of_n_grams() {
    let model = |version, grams| Model::parse(Sketch { version, grams, ..sketch() }.bytes());
    let rows = |model: &Model, text: &str| {
        let mut rows = Vec::new();
        model.dictionary.rows_of(&model.file, text, &mut rows);
        rows
    };
    let words = model(12, [2, 50, 0, 0]).unwrap();
    // boat, sea, end, and the pairs boat-sea and sea-end.
    assert_eq!(rows(&words, "boat sea").len(), 5);
    let subwords = model(12, [1, 50, 2, 3]).unwrap();
    // <ß>: <ß, ß>, and <ß>; then the end.
    assert_eq!(rows(&subwords, "ß").len(), 4);
    // Version 11 wrote lengths of subwords that its classifiers did not use.
    assert_eq!(rows(&model(11, [1, 50, 2, 3]).unwrap(), "ß").len(), 1);
    assert!(rows(&subwords, "a long text").iter().all(|row| *row < 53));
}

fn refused(bytes: &[u8], reason: &str) {
    let message = Model::parse(bytes.to_vec()).err().unwrap();
    assert!(message.contains(reason), "{message}");
}

/// Writes a number over the bytes of a valid model.
fn patched(at: usize, number: i32) -> Vec<u8> {
    let mut bytes = sketch().bytes();
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn what_is_no_model_is_refused_with_its_reason() {
    refused(b"", "the magic number needs 4 bytes at byte 0, 0 are left");
    refused(b"<html>", "not a fastText model");
    refused(&patched(4, 13), "version 13, expected 11 or 12");
    refused(&patched(8, 0), "the input matrix is 3 x 2, expected 3 x 0");
    refused(&patched(32, 9), "loss 9, expected 1");
    refused(&patched(36, 2), "kind 2 (word vectors)");
    refused(&patched(64, i32::MAX), "entries are not");
    refused(&patched(64, -1), "the number of entries at byte 64 is -1");
    let valid = sketch().bytes();
    for length in 0..valid.len() {
        assert!(Model::parse(valid[..length].to_vec()).is_err(), "{length}");
    }
    refused(&[&valid[..], &[0]].concat(), "1 bytes after the last matrix");
    let mut many = valid.clone();
    many[64..68].copy_from_slice(&0x7fff_fffdi32.to_le_bytes());
    many[68..72].copy_from_slice(&0x7fff_fffai32.to_le_bytes());
    refused(&many, "entries cannot stand in");
    let unsorted = Sketch { loss: 1, labels: vec![("a", 1), ("b", 2)], ..sketch() };
    refused(&unsorted.bytes(), "not sorted by their counts");
    refused(&Sketch { labels: Vec::new(), ..sketch() }.bytes(), "without labels");
}

/// A matrix that claims a million million rows is refused by the length of the file.
#[test]
fn impossible_sizes_allocate_nothing() {
    let mut bytes = sketch().bytes();
    let at = bytes.len() - (8 + 8 + 3 * 8);
    bytes[at..at + 8].copy_from_slice(&(1i64 << 40).to_le_bytes());
    refused(&bytes, "a matrix of 1099511627776 x 2 needs");
    bytes[at..at + 8].copy_from_slice(&i64::MAX.to_le_bytes());
    refused(&bytes, "is larger than memory");
}

#[test]
fn mutated_models_never_panic() {
    let kinds = [
        sketch(),
        Sketch { loss: 1, quantised: true, grams: [3, 20, 1, 4], ..sketch() },
        Sketch { loss: 4, version: 11, ..sketch() },
    ];
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for kind in kinds {
        let valid = kind.bytes();
        for _ in 0..3000 {
            let mut bytes = valid.clone();
            for _ in 0..=draw(3) {
                // Half of the changes in what says sizes.
                let end = if draw(2) == 0 { 160.min(bytes.len()) } else { bytes.len() };
                bytes[draw(end)] = [0, 1, 0x7f, 0x80, 0xff, draw(256) as u8][draw(6)];
            }
            if let Ok(model) = Model::parse(bytes) {
                let found = model.predict("boat ß sea other", 2, &mut Scratch::default());
                assert!(found.iter().all(|(label, _)| *label < model.labels().len()));
            }
        }
    }
}
