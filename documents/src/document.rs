//! One cleaned page, and its identity.
//!
//! The identity is a hash of what the page is (canonical URL, date, position in its input), not of
//! what was made of it, so that it survives every change of extraction. Not here: its form on disk.

use serde_json::{Map, Value};
use std::fmt;

/// 128-bit identity of a document, printed as 32 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u128);

impl Id {
    /// Hash of canonical URL, date (milliseconds since 1970, if known) and position in the input.
    pub fn of(url: &str, date: Option<i64>, position: &str) -> Id {
        let mut bytes = Vec::with_capacity(url.len() + position.len() + 24);
        bytes.extend_from_slice(url.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&date.unwrap_or(i64::MIN).to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(position.as_bytes());
        Id(xxhash_rust::xxh3::xxh3_128(&bytes))
    }

    /// Whether a text is an identity as we print it.
    pub fn is_ours(text: &str) -> bool {
        text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// Reads 32 hexadecimal digits; anything else (an identity somebody else gave) is hashed.
    pub fn parse(text: &str) -> Id {
        if Id::is_ours(text)
            && let Ok(value) = u128::from_str_radix(text, 16)
        {
            return Id(value);
        }
        Id(xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Which pipeline judged a document (paper §3.1.1: code and reasoning pages have their own).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Running text.
    #[default]
    Prose,
    /// Pages that teach or contain code.
    Code,
    /// Pages with formulas and derivations.
    Mathematics,
}

impl Route {
    /// Every route, in the order of this type.
    pub const ALL: [Route; 3] = [Route::Prose, Route::Code, Route::Mathematics];

    /// The name that stands in the column.
    pub fn name(self) -> &'static str {
        match self {
            Route::Prose => "prose",
            Route::Code => "code",
            Route::Mathematics => "mathematics",
        }
    }

    /// The route of that name; prose for a name that is none.
    pub fn parse(name: &str) -> Route {
        Route::ALL.into_iter().find(|r| r.name() == name).unwrap_or_default()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A cleaned page at rest. Columns and their meaning: ARCHITECTURE.md, "Formats".
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Identity; see [`Id::of`].
    pub id: Id,
    /// Canonical URL or path below the input; empty where there is none.
    pub url: String,
    /// Milliseconds since 1970, UTC.
    pub date: Option<i64>,
    /// Short name of the input.
    pub source: String,
    /// Title, or empty.
    pub title: String,
    /// Headings that stand in `text`, each as a line of its own, in order.
    pub headings: Vec<String>,
    /// Which rules judged it.
    pub route: Route,
    /// BCP 47 primary subtag, or `other`.
    pub language: String,
    /// Confidence of the language, 0 to 1.
    pub language_score: f32,
    /// Plain text.
    pub text: String,
    /// What rules and classifiers measured, by name.
    pub scores: Vec<(String, f32)>,
    /// What it is about, as a classifier named it; empty where none did.
    pub category: String,
    /// How much it counts against others of its source, 1 for all that nobody weighed.
    pub weight: f32,
    /// Columns that it had where it came from and that are none of ours: a JSON object, or empty.
    pub extra: String,
}

/// Names under which others keep an identity of theirs, in order of preference.
const ID_NAMES: [&str; 4] = ["id", "doc_id", "record_id", "warc_record_id"];

/// An identity of theirs in an object, as text.
pub fn given_id(object: &Map<String, Value>) -> Option<String> {
    ID_NAMES.iter().find_map(|name| match object.get(*name)? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    })
}

impl Document {
    /// The identity by which those know it who made it: the one that `extra` holds, else its own.
    /// Others may give one identity to several documents, as shards do that each begin at 0; ours
    /// tells them apart.
    pub fn known_as(&self) -> Id {
        if !ID_NAMES.iter().any(|name| self.extra.contains(name)) {
            return self.id;
        }
        let given = serde_json::from_str(&self.extra).ok().and_then(|extra| given_id(&extra));
        given.map_or(self.id, |given| Id::parse(&given))
    }
}

impl Default for Document {
    fn default() -> Document {
        Document {
            id: Id::default(),
            url: String::new(),
            date: None,
            source: String::new(),
            title: String::new(),
            headings: Vec::new(),
            route: Route::default(),
            language: String::new(),
            language_score: 0.0,
            text: String::new(),
            scores: Vec::new(),
            category: String::new(),
            weight: 1.0,
            extra: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_depends_on_each_part_and_on_nothing_else() {
        let a = Id::of("http://a.example/", Some(1), "x");
        assert_eq!(a, Id::of("http://a.example/", Some(1), "x"));
        assert_ne!(a, Id::of("http://a.example/", Some(2), "x"));
        assert_ne!(a, Id::of("http://a.example/", None, "x"));
        assert_ne!(a, Id::of("http://a.example/", Some(1), "y"));
        assert_ne!(a, Id::of("http://b.example/", Some(1), "x"));
    }

    #[test]
    fn others_know_it_by_what_they_called_it() {
        let known = |extra: &str| {
            let extra = extra.to_owned();
            Document { id: Id(7), extra, ..Document::default() }.known_as()
        };
        assert_eq!(known(""), Id(7));
        assert_eq!(known(r#"{"dump":"id"}"#), Id(7));
        assert_eq!(known(r#"{"a":1,"id":"<urn:1>"}"#), Id::parse("<urn:1>"));
        assert_eq!(known(r#"{"doc_id":12}"#), Id::parse("12"));
        assert_eq!(known("no object, id"), Id(7));
    }

    #[test]
    fn identity_survives_printing() {
        let a = Id::of("u", None, "p");
        assert_eq!(Id::parse(&a.to_string()), a);
        assert_ne!(Id::parse("12"), Id(0x12), "a foreign identity is hashed");
        assert_ne!(Id::parse("+0000000000000000000000000000001"), Id(1));
    }
}
