//! Training, application and the sealed form, on texts of our own.

use super::*;
use crate::classify::fasttext::Scratch;
use quipu_store::Cancel;
use quipu_store::progress::silent;

fn example(text: String, label: &str) -> Example {
    Example { text, label: label.into() }
}

/// Two kinds of text that share most of their words.
fn examples() -> Vec<Example> {
    let boats = ["sail", "harbour", "mast", "anchor"];
    let farms = ["plough", "barn", "harvest", "cattle"];
    let text = |words: [&str; 4], n: usize| {
        let [a, b] = [words[n % 4], words[(n / 4) % 4]];
        format!("In the year {n} they saw the {a} and spoke of the {b} until the evening came.")
    };
    let of = |words, label| (0..40).map(move |n| example(text(words, n), label));
    of(boats, "sea").chain(of(farms, "land")).collect()
}

fn small() -> Options {
    Options { bucket_bits: 12, epochs: 10, ..Options::default() }
}

#[test]
fn it_learns_what_distinguishes() {
    let model = train(&examples(), &small()).unwrap();
    assert_eq!(
        (model.labels(), model.counts()),
        (&["land".into(), "sea".into()][..], &[40, 40][..])
    );
    let sea = |text: &str| model.scores(text)[1];
    assert!(sea("The anchor and the mast") > 0.8);
    assert!(sea("The barn and the cattle") < 0.2);
    let scores = model.scores("The barn");
    assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    assert!(model.scores("").iter().all(|p| p.is_finite()));
    let measured = cross_validate(&examples(), &small()).unwrap();
    assert!(measured.accuracy.value > 0.95, "{measured:?}");
    assert!(measured.gain[0].1.interval.start > 0.2, "{measured:?}");
}

#[test]
fn the_same_examples_give_the_same_bytes() {
    let one = train(&examples(), &small()).unwrap().encode().unwrap();
    assert_eq!(train(&examples(), &small()).unwrap().encode().unwrap(), one);
    let other = Options { seed: 2, ..small() };
    assert_ne!(train(&examples(), &other).unwrap().encode().unwrap(), one);
}

/// Nothing can be learned from labels that have nothing to do with the texts.
#[test]
fn labels_by_chance_gain_nothing() {
    let mut examples = examples();
    for (n, example) in examples.iter_mut().enumerate() {
        example.label = ["a", "b"][(linear::draw(5, 0, n as u64) % 2) as usize].into();
    }
    let measured = cross_validate(&examples, &small()).unwrap();
    let (_, auc) = &measured.auc[0];
    assert!(auc.interval.start < 0.5, "{measured:?}");
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let mut one = examples();
    one.truncate(40);
    let message = train(&one, &small()).unwrap_err().to_string();
    assert!(message.contains("[sea: 40]"), "{message}");
    let wrong = Options { bucket_bits: 40, ..Options::default() };
    let message = train(&examples(), &wrong).unwrap_err().to_string();
    assert!(message.contains("bucket_bits: found 40, expected 10 to 24"), "{message}");
    let wrong = Options { rate: f32::NAN, ..Options::default() };
    assert!(train(&examples(), &wrong).is_err());
}

#[test]
fn what_was_saved_returns_and_scores_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sea.classifier");
    let model = train(&examples(), &small()).unwrap();
    model.save(&path).unwrap();
    assert_eq!(Classifier::open(&path).unwrap(), model);
    let scoring = |label: Option<&str>| Scoring {
        model: path.clone(),
        name: "topic".into(),
        label: label.map(str::to_owned),
    };
    let score = |label: Option<&str>, text: &str| {
        Scorer::open(&scoring(label)).unwrap().score(text, &mut Scratch::default()).unwrap()
    };
    let text = "The anchor and the mast";
    assert_eq!(score(Some("sea"), text), ("topic".into(), model.scores(text)[1]));
    assert_eq!(score(None, text).0, "topic/sea");
    let message = Scorer::open(&scoring(Some("sky"))).err().unwrap().to_string();
    assert!(message.contains("no label `sky`; it has land, sea"), "{message}");
    std::fs::write(&path, "<html>").unwrap();
    let message = Scorer::open(&scoring(None)).err().unwrap().to_string();
    assert!(message.contains("sea.classifier") && message.contains("`<html>`"), "{message}");
}

#[test]
fn files_are_trained_from_and_documents_scored() {
    use quipu_documents::{Document, Id, Score, Scores, write_file};
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for (label, skip) in [("sea", 0), ("land", 40)] {
        let texts: Vec<String> =
            examples().into_iter().skip(skip).take(40).map(|e| e.text).collect();
        std::fs::write(file(&format!("{label}.txt")), texts.join("\n")).unwrap();
    }
    let inputs = ["sea", "land"].map(|l| (file(&format!("{l}.txt")), Some(l.to_owned())));
    let out = file("topic.classifier");
    let training = jobs::Training { inputs: inputs.to_vec(), out, options: small() };
    assert_eq!(jobs::train_files(&training, &*silent(), &Cancel::new()).unwrap().examples, 80);
    let text = |n: u128| ["The anchor and the mast", "The barn and the cattle"][n as usize % 2];
    let document = |n| Document { id: Id(n), text: text(n).into(), ..Document::default() };
    write_file(&file("d.parquet"), &(0..10).map(document).collect::<Vec<_>>()).unwrap();
    let scoring = Scoring { model: training.out.clone(), name: "topic".into(), label: None };
    let scores = file("s.jsonl");
    let score = |from: &str, out: &std::path::Path, cancel: &Cancel| {
        jobs::score_documents(&scoring, &file(from), out, &*silent(), cancel)
    };
    let applied = score("d.parquet", &scores, &Cancel::new()).unwrap();
    assert_eq!((applied.documents, applied.scored), (10, 10));
    let scores: Vec<Score> = Scores::open(&scores).unwrap().map(Result::unwrap).collect();
    let names = ["topic/sea", "topic/land"];
    assert!(
        scores.iter().enumerate().all(|(n, s)| s.id == Id(n as u128) && s.name == names[n % 2])
    );
    let none = score("none.parquet", &file("t.jsonl"), &Cancel::new());
    assert!(none.unwrap_err().to_string().contains("none.parquet"));
    let stop = Cancel::new();
    stop.request();
    let stopped = score("d.parquet", &file("t.jsonl"), &stop);
    assert!(matches!(stopped, Err(Error::Cancelled(_))), "{stopped:?}");
    assert!(!file("t.jsonl").exists());
    let trained = jobs::train_files(&training, &*silent(), &stop);
    assert!(matches!(trained, Err(Error::Cancelled(_))), "{trained:?}");
}

#[test]
fn calibration_anew_fits_other_examples() {
    let mut model = train(&examples(), &small()).unwrap();
    // Three of four sea texts are called land: probabilities must give way.
    let mut other = examples();
    let sea = other.iter_mut().filter(|e| e.label == "sea").enumerate();
    sea.filter(|(n, _)| n % 4 > 0).for_each(|(_, e)| e.label = "land".into());
    let found = jobs::calibrate(&mut model, &other).unwrap();
    assert!(found.after < found.before / 1.5, "{found:?}");
    let sea: f32 = examples()[..40].iter().map(|e| model.scores(&e.text)[1]).sum();
    assert!((sea / 40.0 - 0.25).abs() < 0.05, "{sea}");
    let strange = [example("x".into(), "sky")];
    assert!(jobs::calibrate(&mut model, &strange).unwrap_err().to_string().contains("`sky`"));
}

#[test]
fn damaged_classifiers_are_refused() {
    let valid = train(&examples(), &small()).unwrap().encode().unwrap();
    for at in (0..valid.len()).step_by(7) {
        let mut bytes = valid.clone();
        bytes[at] ^= 0x10;
        assert!(Classifier::decode(&bytes).is_err(), "byte {at}");
        assert!(Classifier::decode(&valid[..at]).is_err(), "{at} bytes");
    }
}

/// A header that was changed and sealed again is still held against its bounds.
#[test]
fn sealed_lies_are_refused() {
    let valid = train(&examples(), &small()).unwrap().encode().unwrap();
    let length = u32::from_le_bytes(valid[8..12].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&valid[12..12 + length]).unwrap();
    let lies = [
        ("\"bucket_bits\":12", "\"bucket_bits\":24", "bytes of weights, expected"),
        ("\"bucket_bits\":12", "\"bucket_bits\":63", "expected 10 to 24"),
        ("\"labels\":[\"land\"", "\"labels\":[\"zoo\"", "do not fit"),
        ("\"counts\":[40,40]", "\"counts\":[40]", "do not fit"),
        ("\"labels\":", "\"labels\":7,\"x\":", "does not parse"),
    ];
    for (truth, lie, reason) in lies {
        let header = header.replace(truth, lie);
        assert!(header.contains(lie), "{truth}");
        let mut bytes = valid[..8].to_vec();
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&valid[12 + length..valid.len() - 8]);
        bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
        let message = Classifier::decode(&bytes).unwrap_err();
        assert!(message.contains(reason), "{message}");
    }
}

/// Better than the length of the text, with the whole interval, on web pages that people judged.
#[test]
fn quality_is_more_than_length() {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let path = shared.join("data/quality-labels.jsonl");
    if !path.exists() {
        println!("SKIPPED: {} is absent", path.display());
        return;
    }
    let examples = read_examples(&path, None).unwrap();
    let measured = cross_validate(&examples, &Options::default()).unwrap();
    assert_eq!(measured.examples, 499);
    let (auc, gain) = (&measured.auc[1].1, &measured.gain[1].1);
    assert!(auc.value > 0.87 && gain.interval.start > 0.07, "{measured:?}");
    assert!(measured.accuracy.interval.start > measured.most_frequent, "{measured:?}");
}
