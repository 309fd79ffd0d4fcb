//! Hugging Face's `tokenizer.json`, read and written: byte-level BPE as Llama 3's own file has it,
//! with `ignore_merges`. A file that asks for something else (a normalizer, another model, an
//! unknown split) is refused by the name of what it asks for, since dropping it silently would give
//! other ids. Not here: the many switches of `tokenizer_config.json` beyond what a tool needs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::tokenizer::{Added, Parts};
use crate::{Error, Tokenizer, alphabet, chat, special, split};

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Read`] when it cannot be read, [`Error::TokenizerFile`] when it is none that can be
    /// run exactly.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::from_json(&text, &path.display().to_string())
    }

    /// Reads the text of a `tokenizer.json`; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_json(text: &str, name: &str) -> Result<Self, Error> {
        let refuse = |reason: String| Error::TokenizerFile { path: name.to_owned(), reason };
        let file: Value = serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?;
        let parts = parts(&file).map_err(refuse)?;
        Self::build(parts).map_err(|e| refuse(e.to_string()))
    }

    /// The text of the `tokenizer.json` that gives the same ids in `tokenizers` and `transformers`.
    #[must_use]
    pub fn to_json(&self) -> Arc<str> {
        Arc::clone(self.json().get_or_init(|| self.written().into()))
    }

    fn written(&self) -> String {
        let parts = self.parts();
        let spelled =
            |id: u32| parts.pieces[id as usize].as_deref().map(alphabet::spell).unwrap_or_default();
        let vocab: serde_json::Map<String, Value> = parts
            .pieces
            .iter()
            .enumerate()
            .filter_map(|(id, p)| p.as_deref().map(|p| (alphabet::spell(p), json!(id))))
            .collect();
        let merges: Vec<Value> =
            parts.merges.iter().map(|&(l, r)| json!([spelled(l), spelled(r)])).collect();
        let added: Vec<Value> = parts.added.iter().map(added_json).collect();
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": parts.pattern}, "behavior": "Isolated",
                 "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                 "use_regex": false},
            ]},
            "post_processor": self.post_processor(),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                        "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": parts.ignore_merges,
                "vocab": vocab, "merges": merges,
            },
        });
        // Serialising a value that was just built cannot fail.
        serde_json::to_string_pretty(&file).unwrap_or_default() + "\n"
    }

    /// Puts `<|begin_of_text|>` before a text, as Llama 3's file does, where there is one.
    fn post_processor(&self) -> Value {
        let Some(begin) = self.special(special::BEGIN_OF_TEXT) else { return Value::Null };
        let name = special::BEGIN_OF_TEXT;
        let token = |kind: u8| json!({"SpecialToken": {"id": name, "type_id": kind}});
        let text = |id: &str, kind: u8| json!({"Sequence": {"id": id, "type_id": kind}});
        let specials = json!({name: {"id": name, "ids": [begin], "tokens": [name]}});
        json!({"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
             "use_regex": true},
            {"type": "TemplateProcessing", "single": [token(0), text("A", 0)],
             "pair": [token(0), text("A", 0), token(1), text("B", 1)],
             "special_tokens": specials},
        ]})
    }

    /// Writes `tokenizer.json`, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Store`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        Ok(quipu_store::atomic::write_bytes(path, self.to_json().as_bytes())?)
    }

    /// Writes `tokenizer.json` and the `tokenizer_config.json` by which `transformers` opens a
    /// checkpoint folder, with the chat format as a template.
    ///
    /// # Errors
    /// [`Error::Store`] when they cannot be written.
    pub fn save_folder(&self, dir: &Path) -> Result<(), Error> {
        self.save(&dir.join("tokenizer.json"))?;
        let name = |name: &str| self.special(name).map(|_| name.to_owned());
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name(special::BEGIN_OF_TEXT),
            "eos_token": name(special::END_OF_TURN).or_else(|| name(special::END_OF_TEXT)),
            "pad_token": name(special::FINETUNE_RIGHT_PAD),
            "clean_up_tokenization_spaces": false,
            "model_input_names": ["input_ids", "attention_mask"],
            "chat_template": chat::JINJA,
        });
        let text = serde_json::to_string_pretty(&config).unwrap_or_default() + "\n";
        let path = dir.join("tokenizer_config.json");
        Ok(quipu_store::atomic::write_bytes(&path, text.as_bytes())?)
    }
}

fn added_json(added: &Added) -> Value {
    json!({
        "id": added.id, "content": added.text, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": added.special,
    })
}

/// Ids above this are refused: no tokenizer has them, and tables are as long as the largest id.
const LARGEST_ID: u64 = 1 << 22;

fn parts(file: &Value) -> Result<Parts, String> {
    match &file["normalizer"] {
        Value::Null => {}
        other => return Err(format!("its normalizer {} is not supported", kind(other))),
    }
    let model = &file["model"];
    // Files of old writers carry no type; the model is then told by its merges.
    if !matches!(model["type"].as_str(), Some("BPE") | None) || !model["merges"].is_array() {
        return Err(format!("its model {} is not supported; expected BPE", kind(model)));
    }
    for key in ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|s| !s.is_empty()) {
            return Err(format!("model.{key} {} is not supported", model[key]));
        }
    }
    for key in ["byte_fallback", "fuse_unk"] {
        if model[key].as_bool() == Some(true) {
            return Err(format!("model.{key} is not supported; expected a byte-level vocabulary"));
        }
    }
    if model["dropout"].as_f64().is_some_and(|d| d != 0.0) {
        return Err(format!("model.dropout {} is not supported", model["dropout"]));
    }
    let (pieces, added) = pieces(file)?;
    let merges = merges(model, &pieces)?;
    Ok(Parts {
        pieces,
        merges,
        added,
        pattern: pattern(&file["pre_tokenizer"])?,
        ignore_merges: model["ignore_merges"].as_bool().unwrap_or(false),
    })
}

fn kind(value: &Value) -> String {
    value["type"].as_str().map_or_else(|| "without a type".to_owned(), |t| format!("{t:?}"))
}

fn id(value: &Value, of: &str) -> Result<u32, String> {
    match value.as_u64() {
        Some(id) if id <= LARGEST_ID => Ok(id as u32),
        _ => Err(format!("{of} has id {value}; expected 0 to {LARGEST_ID}")),
    }
}

type Pieces = Vec<Option<Box<[u8]>>>;

/// The vocabulary by id, and the added tokens, which may lie inside or outside the vocabulary.
fn pieces(file: &Value) -> Result<(Pieces, Vec<Added>), String> {
    let mut added = Vec::new();
    for token in file["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = token["content"].as_str().unwrap_or_default().to_owned();
        let id = id(&token["id"], &format!("added token {text:?}"))?;
        for key in ["single_word", "lstrip", "rstrip"] {
            if token[key].as_bool() == Some(true) {
                return Err(format!("added token {text:?} has {key}, which is not supported"));
            }
        }
        if text.is_empty() || added.iter().any(|a: &Added| a.id == id || a.text == text) {
            return Err(format!("added token {id} {text:?} is empty or stands twice"));
        }
        added.push(Added { id, text, special: token["special"].as_bool().unwrap_or(false) });
    }
    let vocab = file["model"]["vocab"].as_object();
    let vocab = vocab.ok_or_else(|| "model.vocab is no object".to_owned())?;
    let mut pieces: Pieces = Vec::new();
    for (text, value) in vocab {
        let id = id(value, &format!("token {text:?}"))?;
        if added.iter().any(|a| a.id == id) {
            continue;
        }
        let bytes = alphabet::unspell(text)
            .ok_or_else(|| format!("token {text:?} is not in the byte-level alphabet"))?;
        if pieces.len() <= id as usize {
            pieces.resize(id as usize + 1, None);
        }
        if pieces[id as usize].replace(bytes.into_boxed_slice()).is_some() {
            return Err(format!("two tokens have id {id}, one of them {text:?}"));
        }
    }
    Ok((pieces, added))
}

/// Merges as pairs of ids; old files write a pair as one text with a blank.
fn merges(model: &Value, pieces: &Pieces) -> Result<Vec<(u32, u32)>, String> {
    let by_bytes: std::collections::HashMap<&[u8], u32> = pieces
        .iter()
        .enumerate()
        .filter_map(|(id, p)| p.as_deref().map(|p| (p, id as u32)))
        .collect();
    let side = |text: &str| {
        let bytes = alphabet::unspell(text)?;
        by_bytes.get(bytes.as_slice()).copied().map(|id| (id, bytes))
    };
    let pair = |value: &Value| -> Option<(u32, u32)> {
        let (left, right) = match value {
            Value::String(text) => text.split_once(' ')?,
            Value::Array(two) => match two.as_slice() {
                [Value::String(left), Value::String(right)] => (left.as_str(), right.as_str()),
                _ => return None,
            },
            _ => return None,
        };
        let ((l, mut whole), (r, right)) = (side(left)?, side(right)?);
        whole.extend_from_slice(&right);
        by_bytes.contains_key(whole.as_slice()).then_some((l, r))
    };
    let list = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |(at, value): (usize, &Value)| {
        pair(value).ok_or_else(|| format!("merge {at} {value} is no pair of tokens of a token"))
    };
    list.iter().enumerate().map(read).collect()
}

/// The split pattern: `Split` by a regex and then `ByteLevel`, or `ByteLevel` with GPT-2's own.
fn pattern(pre: &Value) -> Result<String, String> {
    let steps: Vec<&Value> = match pre["type"].as_str() {
        Some("Sequence") => pre["pretokenizers"].as_array().into_iter().flatten().collect(),
        _ => vec![pre],
    };
    let byte_level = |step: &Value, regex: bool| {
        step["type"] == "ByteLevel"
            && step["add_prefix_space"].as_bool() != Some(true)
            && step["use_regex"].as_bool().unwrap_or(true) == regex
    };
    let pattern = match steps.as_slice() {
        [only] if byte_level(only, true) => split::GPT2_PATTERN,
        [cut, last] if byte_level(last, false) && cut["type"] == "Split" => {
            let whole = cut["behavior"] == "Isolated" && cut["invert"].as_bool() != Some(true)
                || cut["behavior"] == "Removed" && cut["invert"].as_bool() == Some(true);
            match cut["pattern"]["Regex"].as_str() {
                Some(pattern) if whole => pattern,
                _ => return Err(format!("its split {cut} is not supported")),
            }
        }
        _ => {
            return Err(format!(
                "its pre_tokenizer {pre} is not supported; expected Split, then ByteLevel"
            ));
        }
    };
    split::native(pattern).map_err(|e| e.to_string())?;
    Ok(pattern.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe;
    use crate::tokenizer::tests::small;
    use tokenizers::pipeline::EncodeOptions;

    /// A tokenizer trained on texts of several scripts.
    fn trained() -> Tokenizer {
        let texts = [
            "It was the best of times, it was the worst of times; it was the age of wisdom.",
            "Είναι η εποχή της σοφίας, είναι η εποχή της ανοησίας.\n\nfn main() {\n    1;\n}",
            "それは最良の時代であり、最悪の時代でもあった。それは最良の",
        ];
        let training = bpe::Training { vocabulary: 360, specials: 16, base: Vec::new() };
        bpe::train_on(&texts, &training).unwrap()
    }

    /// Our ids, and those of `tokenizers` reading the file we wrote, with what the file adds.
    #[track_caller]
    fn check_same_ids(tokenizer: &Tokenizer, text: &str) {
        let file = tokenizers::canonicalize_str(&tokenizer.to_json()).unwrap();
        let theirs = tokenizers::from_json(&file).unwrap();
        let encode = |text: &str, options: &EncodeOptions| -> Vec<u32> {
            let encoded = theirs.encode(text, options).wait().unwrap();
            encoded[0].ids().iter().map(|id| id.id()).collect()
        };
        let plain = EncodeOptions::no_specials();
        assert_eq!(encode(text, &plain), tokenizer.encode_with_special(text).unwrap(), "{text:?}");
        let begin = tokenizer.required(special::BEGIN_OF_TEXT).unwrap();
        assert_eq!(encode(text, &EncodeOptions::default())[0], begin);
    }

    #[test]
    fn the_crate_reads_our_file_and_gives_our_ids() {
        for tokenizer in [small(), trained()] {
            for text in [
                "the thing, it was the users' worst",
                "user",
                "<|begin_of_text|>a<|eot_id|>\n\nb",
                "それは最良の時代 123456  Είναι\r\n\t x",
            ] {
                check_same_ids(&tokenizer, text);
            }
        }
    }

    #[test]
    fn our_file_read_again_is_the_same() {
        for tokenizer in [small(), trained()] {
            let text = tokenizer.to_json();
            let again = Tokenizer::from_json(&text, "x").unwrap();
            assert_eq!(again.to_json(), text);
            assert_eq!(again.ranks().unwrap(), tokenizer.ranks().unwrap());
        }
    }

    #[test]
    fn merges_written_as_one_text_are_read() {
        let mut file: Value = serde_json::from_str(&trained().to_json()).unwrap();
        let joined: Vec<Value> = file["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| json!(format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())))
            .collect();
        file["model"]["merges"] = json!(joined);
        let again = Tokenizer::from_json(&file.to_string(), "x").unwrap();
        assert_eq!(again.to_json(), trained().to_json());
    }

    #[track_caller]
    fn check_refused(change: impl FnOnce(&mut Value), says: &str) {
        let mut file: Value = serde_json::from_str(&small().to_json()).unwrap();
        change(&mut file);
        let error = Tokenizer::from_json(&file.to_string(), "t.json").unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("t.json"), "{error}");
    }

    #[test]
    fn attacks() {
        check_refused(|f| f["normalizer"] = json!({"type": "NFC"}), "normalizer \"NFC\"");
        check_refused(|f| f["model"]["type"] = json!("Unigram"), "\"Unigram\"");
        check_refused(|f| f["model"]["byte_fallback"] = json!(true), "byte_fallback");
        check_refused(|f| f["model"]["dropout"] = json!(0.1), "dropout");
        check_refused(|f| f["model"]["unk_token"] = json!("<unk>"), "unk_token");
        check_refused(|f| f["model"]["vocab"] = json!([]), "no object");
        check_refused(|f| f["model"]["vocab"]["a"] = json!(1_u64 << 40), "expected 0 to");
        check_refused(|f| f["model"]["vocab"]["a"] = json!(-1), "expected 0 to");
        check_refused(|f| f["model"]["vocab"]["a"] = json!(98), "two tokens have id 98");
        check_refused(|f| f["model"]["vocab"]["a b"] = json!(400), "alphabet");
        check_refused(|f| f["model"]["vocab"][""] = json!(400), "no bytes");
        check_refused(|f| f["model"]["merges"][0] = json!(["x", "zz"]), "merge 0");
        check_refused(|f| f["model"]["merges"][0] = json!(["a", "b"]), "merge 0");
        check_refused(|f| f["model"]["merges"][1] = json!("ab"), "merge 1");
        check_refused(|f| f["added_tokens"][0]["lstrip"] = json!(true), "lstrip");
        check_refused(|f| f["added_tokens"][0]["content"] = json!(""), "empty");
        check_refused(|f| f["added_tokens"][0]["id"] = json!(1_u64 << 33), "expected 0 to");
        check_refused(|f| f["pre_tokenizer"] = Value::Null, "pre_tokenizer");
        let split = "/pre_tokenizer/pretokenizers/0/pattern/Regex";
        check_refused(|f| *f.pointer_mut(split).unwrap() = json!("(a+)+"), "(a+)+");
        check_refused(|f| *f = json!(7), "model");
        for text in ["", "{", "[[[[", "null", "{\"model\":{}}"] {
            assert!(Tokenizer::from_json(text, "t.json").is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Tokenizer::from_json(&deep, "t.json").is_err());
    }

    #[test]
    fn mutations_never_panic() {
        let good = small().to_json().as_bytes().to_vec();
        let mut state = 11_u64;
        for _ in 0..400 {
            let mut bad = good.clone();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bad.len();
                bad[at] = b" \"{}[]:,0123456789aZ\xC3"[(state >> 20) as usize % 21];
            }
            let text = String::from_utf8_lossy(&bad);
            if let Ok(tokenizer) = Tokenizer::from_json(&text, "m") {
                let ids = tokenizer.encode("the thing <|eot_id|> 漢").unwrap();
                let _ = tokenizer.decode(&ids);
            }
        }
    }
}
