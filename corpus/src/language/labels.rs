//! What other people's identifiers call languages, as BCP 47 tags in lower case.
//!
//! lid.176 has Wikipedia's codes (`en`, `als`), GlotLID has ISO 639-3 and a script (`eng_Latn`).
//! BCP 47 takes the two-letter code where there is one, and no script where a language has a usual
//! one. Not here: which languages an identifier knows; its labels say so.

use super::OTHER;

/// ISO 639-3, BCP 47, and the script that goes without saying.
#[rustfmt::skip]
const CODES: [(&str, &str, &str); 142] = [
    ("abk", "ab", "Cyrl"), ("afr", "af", "Latn"), ("aka", "ak", "Latn"), ("amh", "am", "Ethi"),
    ("arb", "ar", "Arab"), ("arg", "an", "Latn"), ("asm", "as", "Beng"), ("ava", "av", "Cyrl"),
    ("aym", "ay", "Latn"), ("azb", "azb", "Arab"), ("aze", "az", "Latn"), ("azj", "az", "Latn"),
    ("bak", "ba", "Cyrl"), ("bam", "bm", "Latn"), ("bel", "be", "Cyrl"), ("ben", "bn", "Beng"),
    ("bho", "bho", "Deva"), ("bis", "bi", "Latn"), ("bod", "bo", "Tibt"), ("bos", "bs", "Latn"),
    ("bre", "br", "Latn"), ("bul", "bg", "Cyrl"), ("cat", "ca", "Latn"), ("ces", "cs", "Latn"),
    ("cha", "ch", "Latn"), ("che", "ce", "Cyrl"), ("chv", "cv", "Cyrl"), ("ckb", "ckb", "Arab"),
    ("cmn", "zh", "Hani"), ("cor", "kw", "Latn"), ("cos", "co", "Latn"), ("cym", "cy", "Latn"),
    ("dan", "da", "Latn"), ("deu", "de", "Latn"), ("div", "dv", "Thaa"), ("dzo", "dz", "Tibt"),
    ("ekk", "et", "Latn"), ("ell", "el", "Grek"), ("eng", "en", "Latn"), ("epo", "eo", "Latn"),
    ("est", "et", "Latn"), ("eus", "eu", "Latn"), ("ewe", "ee", "Latn"), ("fao", "fo", "Latn"),
    ("fas", "fa", "Arab"), ("fij", "fj", "Latn"), ("fil", "tl", "Latn"), ("fin", "fi", "Latn"),
    ("fra", "fr", "Latn"), ("fry", "fy", "Latn"), ("gla", "gd", "Latn"), ("gle", "ga", "Latn"),
    ("glg", "gl", "Latn"), ("glv", "gv", "Latn"), ("grn", "gn", "Latn"), ("guj", "gu", "Gujr"),
    ("hat", "ht", "Latn"), ("hau", "ha", "Latn"), ("heb", "he", "Hebr"), ("hin", "hi", "Deva"),
    ("hrv", "hr", "Latn"), ("hun", "hu", "Latn"), ("hye", "hy", "Armn"), ("ibo", "ig", "Latn"),
    ("ido", "io", "Latn"), ("iku", "iu", "Cans"), ("ina", "ia", "Latn"), ("ind", "id", "Latn"),
    ("isl", "is", "Latn"), ("ita", "it", "Latn"), ("jav", "jv", "Latn"), ("jpn", "ja", "Jpan"),
    ("kal", "kl", "Latn"), ("kan", "kn", "Knda"), ("kas", "ks", "Arab"), ("kat", "ka", "Geor"),
    ("kaz", "kk", "Cyrl"), ("khk", "mn", "Cyrl"), ("khm", "km", "Khmr"), ("kin", "rw", "Latn"),
    ("kir", "ky", "Cyrl"), ("kmr", "ku", "Latn"), ("kor", "ko", "Hang"), ("lao", "lo", "Laoo"),
    ("lat", "la", "Latn"), ("lav", "lv", "Latn"), ("lim", "li", "Latn"), ("lin", "ln", "Latn"),
    ("lit", "lt", "Latn"), ("ltz", "lb", "Latn"), ("lug", "lg", "Latn"), ("lvs", "lv", "Latn"),
    ("mal", "ml", "Mlym"), ("mar", "mr", "Deva"), ("mkd", "mk", "Cyrl"), ("mlg", "mg", "Latn"),
    ("mlt", "mt", "Latn"), ("mon", "mn", "Cyrl"), ("mri", "mi", "Latn"), ("msa", "ms", "Latn"),
    ("mya", "my", "Mymr"), ("nep", "ne", "Deva"), ("nld", "nl", "Latn"), ("nno", "nn", "Latn"),
    ("nob", "nb", "Latn"), ("npi", "ne", "Deva"), ("nya", "ny", "Latn"), ("oci", "oc", "Latn"),
    ("ory", "or", "Orya"), ("pan", "pa", "Guru"), ("pbt", "ps", "Arab"), ("pes", "fa", "Arab"),
    ("plt", "mg", "Latn"), ("pol", "pl", "Latn"), ("por", "pt", "Latn"), ("pus", "ps", "Arab"),
    ("que", "qu", "Latn"), ("ron", "ro", "Latn"), ("run", "rn", "Latn"), ("rus", "ru", "Cyrl"),
    ("san", "sa", "Deva"), ("sin", "si", "Sinh"), ("slk", "sk", "Latn"), ("slv", "sl", "Latn"),
    ("sna", "sn", "Latn"), ("som", "so", "Latn"), ("sot", "st", "Latn"), ("spa", "es", "Latn"),
    ("sqi", "sq", "Latn"), ("srp", "sr", "Cyrl"), ("swe", "sv", "Latn"), ("swh", "sw", "Latn"),
    ("tam", "ta", "Taml"), ("tel", "te", "Telu"), ("tgk", "tg", "Cyrl"), ("tha", "th", "Thai"),
    ("tur", "tr", "Latn"), ("ukr", "uk", "Cyrl"), ("urd", "ur", "Arab"), ("uzn", "uz", "Latn"),
    ("vie", "vi", "Latn"), ("zsm", "ms", "Latn"),
];
/// Wikipedia's codes that are something else in BCP 47.
const WIKIPEDIA: [(&str, &str); 3] = [("als", "gsw"), ("bh", "bho"), ("eml", "egl")];

/// The tag of a label; [`OTHER`] for what is no language.
pub(super) fn tag(label: &str) -> String {
    let lower = label.to_ascii_lowercase().replace('_', "-");
    let (language, rest) = lower.split_once('-').unwrap_or((&lower, ""));
    if matches!(language, "und" | "zxx" | "mul" | "mis" | "") {
        return OTHER.to_owned();
    }
    if let Some((_, tag, usual)) = CODES.iter().find(|(code, _, _)| *code == language) {
        let said = rest.is_empty() || rest.eq_ignore_ascii_case(usual);
        return if said { (*tag).to_owned() } else { format!("{tag}-{rest}") };
    }
    if rest.is_empty() {
        let other = WIKIPEDIA.iter().find(|(code, _)| *code == language);
        return other.map_or(lower.clone(), |(_, tag)| (*tag).to_owned());
    }
    if rest == "latn" { language.to_owned() } else { lower }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(label: &str, expected: &str) {
        assert_eq!(tag(label), expected, "{label}");
    }

    #[test]
    fn labels_of_others() {
        check("en", "en");
        check("als", "gsw");
        check("eng_Latn", "en");
        check("cmn_Hani", "zh");
        check("srp_Latn", "sr-latn");
        check("srp_Cyrl", "sr");
        check("pcm_Latn", "pcm");
        check("mni_Beng", "mni-beng");
        check("zh-Hans", "zh-hans");
        check("und_Grek", OTHER);
        check("zxx_Latn", OTHER);
    }

    #[test]
    fn codes_are_sorted() {
        assert!(CODES.is_sorted_by(|a, b| a.0 < b.0));
    }
}
