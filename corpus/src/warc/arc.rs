//! The header line of an ARC record: URL, address, date, media type, length.
//!
//! Version 2 has further fields between media type and length. Facts of the format: the Internet
//! Archive's description of 1996. Not here: the block, which is an HTTP response as in WARC.

use super::Record;

/// Whether a line looks like the header of an ARC record.
pub(super) fn begins(line: &[u8]) -> bool {
    let fields = line.split(|b| *b == b' ').count();
    let scheme = line.iter().position(|b| *b == b':');
    let named = scheme.is_some_and(|n| n > 0 && line[..n].iter().all(u8::is_ascii_alphanumeric));
    fields >= 5 && named
}

/// The record that a header line announces; `Err` says what is wrong with the line.
pub(super) fn parse(line: &[u8]) -> Result<Record, String> {
    let text = String::from_utf8_lossy(line).into_owned();
    // From the right, since a URL may hold spaces: address is the first field that looks like one.
    let fields: Vec<&str> = text.split(' ').collect();
    let is_address = |f: &&str| f.parse::<std::net::IpAddr>().is_ok();
    let address = fields.iter().skip(1).position(is_address).map(|i| i + 1);
    let Some(address) = address.filter(|a| a + 3 < fields.len()) else {
        return Err(format!("ARC header {text:?} has no address, date, type and length"));
    };
    let last = fields[fields.len() - 1];
    let length = last.parse().map_err(|_| format!("ARC length is {last:?}"))?;
    let url = fields[..address].join(" ");
    let kind = if url.starts_with("filedesc:") { "warcinfo" } else { "response" };
    let (date, media) = (fields[address + 1], fields[address + 2]);
    let http = url.starts_with("http");
    let content_type = if http { "application/http" } else { media }.to_owned();
    let (kind, date) = (kind.to_owned(), date.chars().take(14).collect());
    Ok(Record { kind, url, date, content_type, length, ..Record::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, u64)>) {
        let found = parse(line.as_bytes());
        let found = found.as_ref().ok().map(|r| (r.url.as_str(), r.length));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn both_versions_and_broken_lines() {
        check(
            "http://a.example/ 1.2.3.4 20080430204825 text/html 12",
            Some(("http://a.example/", 12)),
        );
        let two = "http://a.example/ 1.2.3.4 20080430204825 text/html 200 - - 0 f.arc.gz 7";
        check(two, Some(("http://a.example/", 7)));
        let spaces = "http://a.example/a b 1.2.3.4 20080430204825 text/html 7";
        check(spaces, Some(("http://a.example/a b", 7)));
        check("http://a.example/ 1.2.3.4 20080430204825 text/html -1", None);
        check("http://a.example/ here there every where", None);
    }
}
