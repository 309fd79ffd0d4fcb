//! Which sites a corpus does without: lists of domains and words that the user gives, and verdicts on
//! whole domains from what their documents are like.
//!
//! The paper removes domains that are full of personal data, known for adult content, or ranked as
//! harmful (§3.1). Lists: [`DomainList`] to block or to allow, [`UrlWords`] in the manner of FineWeb;
//! [`Addresses`] asks them in order. Verdicts: [`Counts`] of a domain, which the engine adds up over
//! all its documents, and [`Limits`]. A domain is the registrable one by the public suffix list, its
//! private section included: a user's page at a host of many users is a domain of its own, so that
//! such a host never goes as a whole. Not here: fetching lists; none is shipped.

mod list;
mod verdict;
mod words;

pub use list::{DomainList, NotDomains};
pub use verdict::{Counts, HARM, Limits, Verdict, lower_bound};
pub use words::UrlWords;

/// The host of a URL, without user and port; empty where there is none.
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let named = rest[..end].rsplit('@').next().unwrap_or_default();
    let port = named.rfind(':').filter(|at| named[at + 1..].bytes().all(|b| b.is_ascii_digit()));
    named[..port.unwrap_or(named.len())].trim_end_matches('.')
}

/// The domain that a URL counts for: what somebody registered, or the host where it is an address.
pub fn domain(url: &str) -> Option<&str> {
    let host = host(url);
    if host.is_empty() || is_address(host) {
        return Some(host).filter(|h| !h.is_empty());
    }
    psl::domain_str(host).or(Some(host))
}

/// The row by which the engine adds up what documents of a domain are like.
pub fn domain_hash(url: &str) -> Option<u64> {
    domain(url).map(|domain| xxhash_rust::xxh3::xxh3_64(domain.as_bytes()))
}

/// Whether a host is a number rather than a name.
fn is_address(host: &str) -> bool {
    host.starts_with('[')
        || host.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()))
}

/// Why a URL is not wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwanted {
    /// Name of the rule, as it stands in fates.
    pub rule: &'static str,
    /// What of the URL is on the list.
    pub found: String,
}

/// The lists that addresses are held against.
#[derive(Debug, Default)]
pub struct Addresses {
    /// Domains that stay whatever the other lists say.
    pub allowed: DomainList,
    /// Domains that go.
    pub blocked: DomainList,
    /// Words that unwanted addresses have.
    pub words: UrlWords,
}

impl Addresses {
    /// Why a URL goes; `None` where it stays.
    pub fn judge(&self, url: &str) -> Option<Unwanted> {
        let host = host(url).to_lowercase();
        if self.allowed.lists(&host).is_some() {
            return None;
        }
        let blocked = self.blocked.lists(&host);
        let blocked = blocked.map(|d| Unwanted { rule: "domain-list", found: d.to_owned() });
        blocked.or_else(|| self.words.judge(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, host_of: &str, domain_of: Option<&str>) {
        assert_eq!((host(url), domain(url)), (host_of, domain_of), "{url}");
    }

    #[test]
    fn hosts_and_domains() {
        check("https://www.harbour.co.uk/x", "www.harbour.co.uk", Some("harbour.co.uk"));
        check("http://u:p@a.b.harbour.org:8080?x=@y", "a.b.harbour.org", Some("harbour.org"));
        check("http://anna.blogspot.com/", "anna.blogspot.com", Some("anna.blogspot.com"));
        check("http://anna.github.io/", "anna.github.io", Some("anna.github.io"));
        check("http://81.2.69.160:80/", "81.2.69.160", Some("81.2.69.160"));
        check("http://[2a00::1]:80/", "[2a00::1]", Some("[2a00::1]"));
        check("http://harbour.org./", "harbour.org", Some("harbour.org"));
        check("http://localhost/", "localhost", Some("localhost"));
        check("folder/file.txt", "", None);
        check("http:///", "", None);
        assert_eq!(domain_hash("http://a.harbour.org/"), domain_hash("https://harbour.org/x"));
        assert_eq!(domain_hash("x"), None);
    }

    #[test]
    fn what_is_allowed_stays_whatever_else_is_said() {
        let list = |text: &str| DomainList::read(text.as_bytes()).unwrap();
        let addresses = Addresses {
            allowed: list("museum.example.org"),
            blocked: list("example.org"),
            words: UrlWords::new(&["casino"], &[], &[]),
        };
        let rule = |url: &str| addresses.judge(url).map(|u| u.rule);
        assert_eq!(rule("http://museum.example.org/casino"), None);
        assert_eq!(rule("http://www.Example.org/"), Some("domain-list"));
        assert_eq!(rule("http://harbour.org/casino"), Some("url-word"));
        assert_eq!(rule("http://harbour.org/"), None);
        assert_eq!(Addresses::default().judge("http://harbour.org/"), None);
    }
}
