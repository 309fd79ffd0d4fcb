//! URL deduplication: of all visits to one address the newest is kept (paper §3.1.1, level 1).
//!
//! Canonical form: `http` and `https`, with and without `www.`, are one; host in lower case, no
//! default port, no fragment, no user; no tracking or session parameters, the others in order; no
//! `index.html`; no slash at the end. At equal dates the longer text is kept, then the smaller
//! identity. What is no URL (a path below a folder) stays as it is.

use url::Url;

/// Parameters that say how a visitor came, not what the page is.
const TRACKING: [&str; 24] = [
    "srsltid",
    "gbraid",
    "wbraid",
    "_gl",
    "twclid",
    "ttclid",
    "li_fat_id",
    "fbclid",
    "gclid",
    "dclid",
    "msclkid",
    "yclid",
    "igshid",
    "mc_cid",
    "mc_eid",
    "ref_src",
    "phpsessid",
    "jsessionid",
    "sessionid",
    "_ga",
    "spm",
    "cmpid",
    "wt_mc",
    "oly_enc_id",
];
/// Letters and digits of the shortest `sid` that is a session's.
const TOKEN: usize = 16;
/// Names of the page that a folder shows.
const INDEX: [&str; 6] =
    ["index.html", "index.htm", "index.php", "default.html", "default.htm", "index.asp"];

/// The canonical form of a URL.
pub fn canonical(raw: &str) -> String {
    let raw = raw.trim();
    let Ok(mut url) = Url::parse(raw) else { return raw.to_owned() };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return raw.to_owned();
    }
    url.set_fragment(None);
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, value)| !is_tracking(name, value))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if kept.len() != url.query_pairs().count() || kept.is_empty() {
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
    }
    let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
    let host = host.strip_prefix("www.").filter(|h| h.contains('.')).unwrap_or(&host);
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    let path = url.path();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = name.split(';').next().unwrap_or_default();
    let path = if INDEX.contains(&name.to_ascii_lowercase().as_str()) {
        folder.to_owned()
    } else {
        format!("{folder}/{name}")
    };
    let path = path.trim_end_matches('/');
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    format!("https://{host}{port}{path}{query}")
}

fn is_tracking(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A session where it reads like one; elsewhere it is the number of a story, a shop, a state.
    let session = value.len() >= TOKEN && value.bytes().all(|b| b.is_ascii_alphanumeric());
    name.starts_with("utm_") || TRACKING.contains(&name.as_str()) || (name == "sid" && session)
}

/// Hash of a canonical URL.
pub fn url_hash(canonical: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(canonical.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expected: &str) {
        assert_eq!(canonical(raw), expected, "{raw}");
        assert_eq!(canonical(expected), expected, "stable: {expected}");
    }

    #[test]
    fn canonical_forms() {
        check(
            "HTTP://WWW.A.Example:80/x/?utm_source=feed&b=2&a=1#top",
            "https://a.example/x?b=2&a=1",
        );
        check("https://a.example", "https://a.example");
        check("https://a.example/index.html", "https://a.example");
        check("https://a.example/p.php?id=7&fbclid=I", "https://a.example/p.php?id=7");
        check("https://a.example/x;jsessionid=1F", "https://a.example/x");
        check("https://a.example/x?srsltid=Af&gbraid=0A&id=7", "https://a.example/x?id=7");
        check("https://a.example/s?file=x&sid=12", "https://a.example/s?file=x&sid=12");
        check("https://a.example/s?f=x&sid=0af31c9be47d22aa", "https://a.example/s?f=x");
        check("https://a.example:8443/X", "https://a.example:8443/X");
        check("http://user:pass@a.example/", "https://a.example");
        check("https://a.example/?q=a%20b", "https://a.example?q=a%20b");
        check("sub/page.html", "sub/page.html");
        check("http://", "http://");
        check("mailto:x@a.example", "mailto:x@a.example");
        check("https://münchen.example/ä", "https://xn--mnchen-3ya.example/%C3%A4");
    }
}
