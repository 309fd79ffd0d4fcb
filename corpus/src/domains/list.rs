//! A list of domains: one a line, a hosts file, or the simple lines of an ad blocker's list.
//!
//! Kept as sorted hashes, 8 bytes a domain, since such lists have millions. A host is listed if it
//! is, or a parent of it down to what somebody registered: an entry such as `co.uk` or
//! `blogspot.com`, under which everybody registers, lists only itself.

use std::io::BufRead;
use xxhash_rust::xxh3::xxh3_64;

/// Sorted hashes of domains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainList {
    hashes: Vec<u64>,
    skipped: u64,
}

/// Why bytes are not a list of domains.
#[derive(Debug, thiserror::Error)]
pub enum NotDomains {
    /// They could not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Most lines are something else.
    #[error(
        "{skipped} of {lines} lines are no domains, the first is {first:?}; expected a domain a line, \
         lines of a hosts file, or ||domain^"
    )]
    Lines {
        /// Lines that are no domains.
        skipped: u64,
        /// Lines that say something.
        lines: u64,
        /// The first of them.
        first: String,
    },
}

/// Longest line that is believed.
const LINE: usize = 1 << 16;

impl DomainList {
    /// Reads a list. Comments begin with `#` or `!`; lines that say more than a domain (paths,
    /// exceptions, options) are counted in [`DomainList::skipped`]; a list of mostly such is refused.
    pub fn read(mut from: impl BufRead) -> Result<DomainList, NotDomains> {
        let mut list = DomainList::default();
        let (mut line, mut lines, mut first) = (Vec::new(), 0, String::new());
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut from, LINE as u64);
            if limited.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim().trim_start_matches('\u{feff}');
            if text.is_empty() || text.starts_with(['#', '!', '[']) {
                continue;
            }
            lines += 1;
            if !list.enter(text) {
                list.skipped += 1;
                if first.is_empty() {
                    first = text.chars().take(80).collect();
                }
            }
        }
        if list.skipped * 2 > lines {
            return Err(NotDomains::Lines { skipped: list.skipped, lines, first });
        }
        list.hashes.sort_unstable();
        list.hashes.dedup();
        Ok(list)
    }

    /// Enters the domains of a line; whether there is one.
    fn enter(&mut self, line: &str) -> bool {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if let Some(rule) = line.strip_prefix("||") {
            let (name, options) = rule.split_once('^').unwrap_or((rule, ""));
            let plain = matches!(options, "" | "$all" | "$document" | "$third-party" | "$popup");
            return plain && self.enter_name(name);
        }
        let mut fields = line.split_whitespace();
        let hosts_file =
            fields.next().is_some_and(|f| matches!(f, "0.0.0.0" | "127.0.0.1" | "::" | "::1"));
        if hosts_file && fields.clone().next().is_some() {
            let mut any = false;
            for name in fields {
                any |= name == "localhost" || self.enter_name(name);
            }
            return any;
        }
        fields.next().is_none() && self.enter_name(line)
    }

    fn enter_name(&mut self, name: &str) -> bool {
        let name = name.trim_start_matches("*.").trim_matches('.').to_lowercase();
        let name = match name.is_ascii() {
            true => name,
            false => url::Host::parse(&name).map(|host| host.to_string()).unwrap_or_default(),
        };
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let sound = name.contains('.') && name.len() <= 253 && name.bytes().all(letter);
        if sound && !name.contains("..") {
            self.hashes.push(xxh3_64(name.as_bytes()));
        }
        sound
    }

    /// Another list's domains too.
    pub fn merge(&mut self, other: &DomainList) {
        self.hashes.extend_from_slice(&other.hashes);
        self.hashes.sort_unstable();
        self.hashes.dedup();
        self.skipped += other.skipped;
    }

    /// The host (in lower case), or the parent of it, that the list has.
    pub fn lists<'h>(&self, host: &'h str) -> Option<&'h str> {
        if self.hashes.is_empty() || host.is_empty() {
            return None;
        }
        let least = match super::is_address(host) {
            true => host.len(),
            false => psl::domain_str(host).map_or(host.len(), str::len),
        };
        let mut name = host;
        while name.len() >= least {
            if self.hashes.binary_search(&xxh3_64(name.as_bytes())).is_ok() {
                return Some(name);
            }
            name = name.split_once('.')?.1;
        }
        None
    }

    /// How many domains it has.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Lines that say something else than a domain.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> DomainList {
        DomainList::read(text.as_bytes()).unwrap()
    }

    fn check(list: &DomainList, host: &str, found: Option<&str>) {
        assert_eq!(list.lists(host), found, "{host}");
    }

    #[test]
    fn three_forms_of_lists() {
        let forms = [
            "# a list\nBad.org\n*.worse.co.uk\n\nmüller.de.\n",
            "127.0.0.1 localhost\n0.0.0.0 bad.org www.bad.org # why\n0.0.0.0 worse.co.uk\n0.0.0.0 xn--mller-kva.de",
            "[Adblock Plus 2.0]\n! a list\n||bad.org^\n||worse.co.uk^$third-party\n||müller.de^\r\n",
        ];
        for text in forms {
            let list = read(text);
            assert!((3..=4).contains(&list.len()), "{text}");
            check(&list, "bad.org", Some("bad.org"));
            check(&list, "a.b.bad.org", Some("bad.org"));
            check(&list, "notbad.org", None);
            check(&list, "www.worse.co.uk", Some("worse.co.uk"));
            check(&list, "co.uk", None);
            check(&list, "xn--mller-kva.de", Some("xn--mller-kva.de"));
            check(&list, "", None);
        }
    }

    #[test]
    fn suffixes_under_which_everybody_registers_list_only_themselves() {
        let list = read("co.uk\nblogspot.com\nanna.github.io\n81.2.69.160\n");
        check(&list, "harbour.co.uk", None);
        check(&list, "anna.blogspot.com", None);
        check(&list, "blogspot.com", Some("blogspot.com"));
        check(&list, "www.anna.github.io", Some("anna.github.io"));
        check(&list, "81.2.69.160", Some("81.2.69.160"));
        check(&list, "7.81.2.69.160", None);
    }

    #[test]
    fn other_lines_are_counted_and_other_files_refused() {
        let list = read("a.org\nb.org\nc.org\nd.org/path\n@@||e.org^\n||f.org^$domain=g.org\n");
        assert_eq!((list.len(), list.skipped()), (3, 3));
        let text = "This is a letter, and no list.\nIt has lines.\n";
        let error = DomainList::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("2 of 2 lines") && error.contains("This is"), "{error}");
        let binary = vec![0xffu8; LINE * 3];
        assert!(DomainList::read(&binary[..]).is_err());
        assert!(read("").is_empty());
    }

    #[test]
    fn lists_are_joined() {
        let mut list = read("a.org\nb.org\n");
        list.merge(&read("b.org\nc.org\n"));
        assert_eq!(list.len(), 3);
        check(&list, "c.org", Some("c.org"));
    }
}
