//! Patterns of names: `*` any characters, `?` one, `[a-z]` one of these, `[!a-z]` one of others,
//! each between two slashes; `**` any folders. As in a shell, names that begin with a dot are
//! fitted by a dot only.
//!
//! The same over folders here and in buckets: who asks says what is in a folder. Of each folder on
//! the way only what fits is looked into. Not here: which names are patterns at all.

use crate::Error;
use crate::remote::{Children, Stamp};
use std::path::{Path, PathBuf};

/// Folders of a pattern's way that lie deeper are not entered.
const MAX_DEPTH: usize = 64;

/// Whether a name is a pattern.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

/// Whether a name between two slashes fits a pattern.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    if name.first() == Some(&'.') && pattern.first() != Some(&'.') {
        return false;
    }
    // The last star, and how far in the name it has come: to go back to where it was too short.
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, seen));
            at += 1;
            continue;
        }
        if let Some(length) = one(&pattern[at.min(pattern.len())..], name[seen]) {
            (at, seen) = (at + length, seen + 1);
            continue;
        }
        let Some((before, from)) = star else { return false };
        star = Some((before, from + 1));
        (at, seen) = (before + 1, from + 1);
    }
    pattern[at.min(pattern.len())..].iter().all(|c| *c == '*')
}

/// The length of a pattern's first piece, if it fits a character.
fn one(pattern: &[char], found: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => {
            // A bracket that stands first is one of the characters.
            let end = pattern.iter().skip(2).position(|c| *c == ']').map(|end| end + 2);
            let Some(end) = end else { return (found == '[').then_some(1) };
            let not = pattern[1] == '!';
            let class = &pattern[1 + usize::from(not)..end];
            (within(class, found) != not).then_some(end + 1)
        }
        literal => (*literal == found).then_some(1),
    }
}

fn within(class: &[char], found: char) -> bool {
    let (mut at, mut fits) = (0, false);
    while at < class.len() {
        if at + 2 < class.len() && class[at + 1] == '-' {
            fits |= (class[at]..=class[at + 2]).contains(&found);
            at += 3;
        } else {
            fits |= class[at] == found;
            at += 1;
        }
    }
    fits
}

/// What fits a pattern: a path, what is known of it, and whether it is a folder.
pub(super) type Fitting = (PathBuf, Option<Stamp>, bool);

/// What below `base` fits the parts of a pattern, in the order of names.
pub(super) fn expand(
    base: &Path,
    parts: &[&str],
    children: &impl Fn(&Path) -> Result<Children, Error>,
    out: &mut Vec<Fitting>,
) -> Result<(), Error> {
    walk(base, parts, children, 0, out)?;
    // `**` finds a place by several ways.
    let mut seen = std::collections::HashSet::new();
    out.retain(|(path, ..)| seen.insert(path.clone()));
    Ok(())
}

fn walk(
    base: &Path,
    parts: &[&str],
    children: &impl Fn(&Path) -> Result<Children, Error>,
    depth: usize,
    out: &mut Vec<Fitting>,
) -> Result<(), Error> {
    let Some((first, rest)) = parts.split_first() else { return Ok(()) };
    if depth > MAX_DEPTH {
        return Ok(());
    }
    if !is_pattern(first) && !rest.is_empty() {
        return walk(&base.join(first), rest, children, depth + 1, out);
    }
    if *first == "**" {
        // At the end it stands for all files.
        let rest = if rest.is_empty() { &["*"][..] } else { rest };
        walk(base, rest, children, depth, out)?;
        let mut folders = children(base)?.folders;
        folders.retain(|name| !name.starts_with('.'));
        folders.sort();
        return folders
            .iter()
            .try_for_each(|name| walk(&base.join(name), parts, children, depth + 1, out));
    }
    let Children { folders, files } = children(base)?;
    let folders = folders.into_iter().map(|name| (name, None, true));
    let files = files.into_iter().map(|(name, stamp)| (name, Some(stamp), false));
    let mut found: Vec<_> = folders.chain(files).filter(|(name, ..)| fits(first, name)).collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, stamp, folder) in found {
        match (rest.is_empty(), folder) {
            (true, _) => out.push((base.join(name), stamp, folder)),
            (false, true) => walk(&base.join(name), rest, children, depth + 1, out)?,
            (false, false) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, fitting: &[&str], others: &[&str]) {
        for name in fitting {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for name in others {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns() {
        check("*.warc.gz", &["a.warc.gz", "a.warc.gz.warc.gz"], &["a.warc", ".warc.gz", "warc.gz"]);
        check("a*b*c", &["abc", "axbxbxc"], &["ab", "abcd"]);
        check("?[0-9][!a]", &["x1b", "é9ß"], &["x1a", "xab", "x1"]);
        check("[]x]", &["]", "x"], &["y", "[]x]"]);
        check("[", &["["], &["x"]);
        check("*", &["a", ""], &[".git"]);
        check(".*", &[".git"], &["git"]);
        check(&"*a".repeat(40), &[&"a".repeat(40)], &[&"a".repeat(39), &"b".repeat(5000)]);
    }

    fn check_paths(pattern: &str, expected: &[&str]) {
        let all = ["a/x.gz", "a/y.txt", "a/b/x.gz", "a.gz", "c/d/e/x.gz", ".h/x.gz"];
        let children = |folder: &Path| {
            let mut found = Children::default();
            for path in all {
                let Ok(rest) = Path::new(path).strip_prefix(folder) else { continue };
                let rest = rest.to_str().unwrap();
                match rest.split_once('/') {
                    None => found.files.push((rest.to_owned(), Stamp::default())),
                    Some((name, _)) if !found.folders.contains(&name.to_owned()) => {
                        found.folders.push(name.to_owned());
                    }
                    Some(_) => {}
                }
            }
            Ok(found)
        };
        let (mut out, parts): (Vec<Fitting>, Vec<&str>) =
            (Vec::new(), pattern.split('/').collect());
        expand(Path::new(""), &parts, &children, &mut out).unwrap();
        let found: Vec<&str> = out.iter().map(|(path, ..)| path.to_str().unwrap()).collect();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn patterns_of_paths() {
        check_paths("a/*.gz", &["a/x.gz"]);
        check_paths("*/x.gz", &["a/x.gz"]);
        check_paths("**/x.gz", &["a/x.gz", "a/b/x.gz", "c/d/e/x.gz"]);
        check_paths("**/*.gz", &["a.gz", "a/x.gz", "a/b/x.gz", "c/d/e/x.gz"]);
        check_paths("a*", &["a", "a.gz"]);
        check_paths("c/**/x.gz", &["c/d/e/x.gz"]);
        check_paths("a/x.*", &["a/x.gz"]);
        check_paths("z/*", &[]);
    }
}
