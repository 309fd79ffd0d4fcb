//! E-mail addresses.
//!
//! Around an `@`: a local part of up to 64 letters, digits and `._%+-` (Latin letters with marks
//! too), and a host of labels that ends in letters. Not believed: addresses of the domains set apart
//! for examples (RFC 2606), names of files (`logo@2x.png`), versions (`pkg@1.2.3`), and `git@host:`.

use std::ops::Range;

const MOST_LOCAL: usize = 64;
const MOST_HOST: usize = 253;
const FILES: [&str; 12] =
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "mp4", "pdf", "ico", "avif"];
const EXAMPLES: [&str; 7] =
    ["example.com", "example.org", "example.net", "example", "test", "invalid", "localhost"];

fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || ('\u{c0}'..='\u{24f}').contains(&c)
}

/// The address around the `@` at `at`, nothing of it before `from`.
pub(super) fn around(text: &str, at: usize, from: usize) -> Option<Range<usize>> {
    let local_char = |c: &char| is_letter(*c) || matches!(c, '.' | '_' | '%' | '+' | '-');
    let local = text[from..at].chars().rev().take(MOST_LOCAL + 1).take_while(local_char);
    let start = at - local.map(char::len_utf8).sum::<usize>();
    let start = at - text[start..at].trim_start_matches(['.', '-', '+', '%']).len();
    let local = &text[start..at];
    let dotted = local.ends_with('.') || local.contains("..");
    if local.is_empty() || dotted || local.chars().count() > MOST_LOCAL {
        return None;
    }
    let host_char = |c: &char| is_letter(*c) || matches!(c, '.' | '-');
    let after = text[at + 1..].chars().take(MOST_HOST).take_while(host_char);
    let host = &text[at + 1..at + 1 + after.map(char::len_utf8).sum::<usize>()];
    let host = host.trim_end_matches(['.', '-']);
    let host = without_next_sentence(host);
    let end = at + 1 + host.len();
    let clone = local == "git" && text[end..].starts_with(':');
    (is_host(host) && !clone).then_some(start..end)
}

/// A host without the capitalised word of the next sentence, where the blank between is missing.
fn without_next_sentence(host: &str) -> &str {
    match host.rsplit_once('.') {
        Some((rest, word)) if word.starts_with(char::is_uppercase) => {
            let lower = rest.chars().all(|c| !c.is_uppercase());
            if lower && is_host(rest) { rest } else { host }
        }
        _ => host,
    }
}

fn is_host(host: &str) -> bool {
    let mut labels = host.split('.').rev();
    let Some(last) = labels.next() else { return false };
    let letters = |label: &str| label.chars().all(|c| is_letter(c) && !c.is_ascii_digit());
    let top = (2..=24).contains(&last.len()) && (letters(last) || last.starts_with("xn--"));
    let sound = |label: &str| !label.is_empty() && label.len() <= 63 && !label.starts_with('-');
    let lower = host.to_lowercase();
    let ends = |name: &&str| {
        lower.strip_suffix(*name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let named = labels.clone().next().is_some() && labels.all(sound);
    top && named && !FILES.iter().any(ends) && !EXAMPLES.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};

    #[test]
    fn addresses() {
        all_are(
            Kind::Email,
            &[
                "anna@harbour.org",
                "a.b-c+list_9%x@mail.sub.harbour.co.uk",
                "ANNA@HARBOUR.ORG",
                "jörg@müller.de",
                "x@xn--mller-kva.xn--p1ai",
                "info@museum.photography",
            ],
        );
        let address = &[(Kind::Email, "anna@harbour.org")][..];
        check("mailto:anna@harbour.org?subject=x", address);
        check("Write to anna@harbour.org.", address);
        check("<anna@harbour.org>,", address);
        check("..anna@harbour.org-", address);
        check("anna@harbour.org.She wrote", address);
        check("anna@harbour.org@harbour.org", address);
    }

    #[test]
    fn near_misses() {
        none_is(&[
            "@anna",
            "anna@",
            "anna@harbour",
            "anna@.org",
            "anna.@harbour.org",
            "a..b@harbour.org",
            "logo@2x.png",
            "react@18.2.0",
            "anna@harbour..org",
            "anna@-harbour.org",
            "you@example.com",
            "you@mail.example.org",
            "me@host.invalid",
            "git@github.com:quipu/quipu.git",
            "medium.com/@anna.marlow",
            "5@3 for 2.50",
            "anna@harbour.o1",
        ]);
        none_is(&[&format!("{}@harbour.org", "x".repeat(80))]);
    }
}
