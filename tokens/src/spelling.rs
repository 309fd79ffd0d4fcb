//! What was perhaps meant by a name that is none of those there are: the nearest by letters. Not
//! the checking of names, which is whoever's they are.

/// `, did you mean X?` where one of `known` is near `word`, else nothing.
#[must_use]
pub fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or(String::new(), |near| format!(", did you mean {near:?}?"))
}

/// The nearest of `known` (the first of equals), if it is as near as a slip of the pen.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().min_by_key(|name| distance(word, name))?;
    (distance(word, near) <= 2.max(word.len() / 3)).then_some(near)
}

/// How many letters must be put in, taken out or changed between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("steps", "steps"), 0);
    }

    #[test]
    fn only_a_near_name_is_meant() {
        assert_eq!(nearest("cod", ["prose", "code"]), Some("code"));
        assert_eq!(meant("poetry", ["prose", "code"]), "");
        assert_eq!(meant("prosa", ["prose", "code"]), ", did you mean \"prose\"?");
        assert_eq!(nearest("x", []), None);
    }
}
