//! The words of the English-like pages: two dozen topics with their own vocabularies, and how an
//! English word bends (plural, past, participle, article).
//!
//! NOT a dictionary of English: what a page talks about is drawn from here, what the world knows is
//! in `simulation`. The words lie in `lexicon.txt`, one line a part of speech.

/// The vocabulary of one topic. Words earlier in a list are drawn more often.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) agents: Vec<&'static str>,
    pub(crate) things: Vec<&'static str>,
    pub(crate) stuff: Vec<&'static str>,
    pub(crate) places: Vec<&'static str>,
    pub(crate) acts: Vec<&'static str>,
    pub(crate) does: Vec<&'static str>,
    pub(crate) adjectives: Vec<&'static str>,
}

/// All topics; the first is the general one that every page may use.
#[derive(Debug)]
pub(crate) struct Lexicon {
    pub(crate) topics: Vec<Topic>,
}

impl Lexicon {
    pub(crate) fn load() -> Self {
        let mut topics: Vec<Topic> = Vec::new();
        for line in include_str!("lexicon.txt").lines() {
            let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
            if head == "#" {
                topics.push(Topic { name: rest, ..Topic::default() });
                continue;
            }
            let Some(topic) = topics.last_mut() else { continue };
            let words: Vec<&'static str> = rest.split_whitespace().collect();
            match head {
                "agent" => topic.agents = words,
                "thing" => topic.things = words,
                "stuff" => topic.stuff = words,
                "place" => topic.places = words,
                "act" => topic.acts = words,
                "does" => topic.does = words,
                "adj" => topic.adjectives = words,
                _ => {}
            }
        }
        Self { topics }
    }

    pub(crate) fn general(&self) -> &Topic {
        &self.topics[0]
    }
}

/// Base, past and participle of the irregular verbs in the lists.
const IRREGULAR: &[(&str, &str, &str)] = &[
    ("find", "found", "found"),
    ("lose", "lost", "lost"),
    ("show", "showed", "shown"),
    ("bring", "brought", "brought"),
    ("keep", "kept", "kept"),
    ("take", "took", "taken"),
    ("give", "gave", "given"),
    ("see", "saw", "seen"),
    ("hide", "hid", "hidden"),
    ("hold", "held", "held"),
    ("forget", "forgot", "forgotten"),
    ("send", "sent", "sent"),
    ("sleep", "slept", "slept"),
    ("leave", "left", "left"),
    ("speak", "spoke", "spoken"),
    ("sow", "sowed", "sown"),
    ("shear", "sheared", "shorn"),
    ("feed", "fed", "fed"),
    ("breed", "bred", "bred"),
    ("mow", "mowed", "mown"),
    ("catch", "caught", "caught"),
    ("sink", "sank", "sunk"),
    ("swim", "swam", "swum"),
    ("rise", "rose", "risen"),
    ("sing", "sang", "sung"),
    ("build", "built", "built"),
    ("lay", "laid", "laid"),
    ("weave", "wove", "woven"),
    ("sew", "sewed", "sewn"),
    ("spin", "spun", "spun"),
    ("cut", "cut", "cut"),
    ("shrink", "shrank", "shrunk"),
    ("bleed", "bled", "bled"),
    ("freeze", "froze", "frozen"),
    ("blow", "blew", "blown"),
    ("shine", "shone", "shone"),
    ("sell", "sold", "sold"),
    ("buy", "bought", "bought"),
    ("pay", "paid", "paid"),
    ("lend", "lent", "lent"),
    ("fall", "fell", "fallen"),
    ("swear", "swore", "sworn"),
    ("lie", "lied", "lied"),
    ("teach", "taught", "taught"),
    ("read", "read", "read"),
    ("write", "wrote", "written"),
    ("dig", "dug", "dug"),
    ("slide", "slid", "slid"),
    ("hew", "hewed", "hewn"),
    ("shoot", "shot", "shot"),
    ("grow", "grew", "grown"),
    ("melt", "melted", "melted"),
    ("cast", "cast", "cast"),
    ("bend", "bent", "bent"),
    ("drive", "drove", "driven"),
    ("weep", "wept", "wept"),
    ("set", "set", "set"),
    ("bind", "bound", "bound"),
    ("win", "won", "won"),
    ("throw", "threw", "thrown"),
    ("beat", "beat", "beaten"),
    ("hit", "hit", "hit"),
    ("run", "ran", "run"),
    ("burn", "burned", "burned"),
    ("wind", "wound", "wound"),
    ("draw", "drew", "drawn"),
    ("hang", "hung", "hung"),
    ("ring", "rang", "rung"),
    ("light", "lit", "lit"),
    ("spread", "spread", "spread"),
    ("understand", "understood", "understood"),
];

/// Verbs whose last consonant doubles: `stop`, `stopped`, `stopping`.
const DOUBLING: &[&str] = &[
    "stop", "drop", "stir", "chop", "trap", "plan", "rig", "net", "gut", "trim", "hem", "knit",
    "hum", "rub", "fit", "pot", "pin", "drag", "grab", "beg", "scrub", "map", "wrap", "jam", "rot",
    "blot", "pat", "wed", "strum", "slip", "stab", "dip", "swim", "run", "dig", "win", "spin",
    "cut", "set", "hit", "forget", "clap", "ship", "step", "rob", "equip", "commit", "admit",
];

fn is_vowel(letter: char) -> bool {
    matches!(letter, 'a' | 'e' | 'i' | 'o' | 'u')
}

fn ends_with_consonant_y(word: &str) -> bool {
    let mut letters = word.chars().rev();
    letters.next() == Some('y') && letters.next().is_some_and(|c| !is_vowel(c))
}

fn double_last(word: &str) -> Option<String> {
    let last = word.chars().next_back()?;
    DOUBLING.contains(&word).then(|| format!("{word}{last}"))
}

fn regular_past(base: &str) -> String {
    if let Some(doubled) = double_last(base) {
        return doubled + "ed";
    }
    if base.ends_with('e') {
        return format!("{base}d");
    }
    if ends_with_consonant_y(base) {
        return format!("{}ied", &base[..base.len() - 1]);
    }
    format!("{base}ed")
}

/// `weave` → `wove`.
pub(crate) fn past(base: &str) -> String {
    let found = IRREGULAR.iter().find(|(b, _, _)| *b == base);
    found.map_or_else(|| regular_past(base), |(_, past, _)| (*past).to_owned())
}

/// `weave` → `woven`.
pub(crate) fn participle(base: &str) -> String {
    let found = IRREGULAR.iter().find(|(b, _, _)| *b == base);
    found.map_or_else(|| regular_past(base), |(_, _, done)| (*done).to_owned())
}

/// `weave` → `weaving`.
pub(crate) fn gerund(base: &str) -> String {
    if let Some(doubled) = double_last(base) {
        return doubled + "ing";
    }
    if let Some(stem) = base.strip_suffix("ie") {
        return format!("{stem}ying");
    }
    if base.ends_with('e') && !base.ends_with("ee") && !base.ends_with("ye") {
        return format!("{}ing", &base[..base.len() - 1]);
    }
    format!("{base}ing")
}

/// `weave` → `weaves`; the same rule makes plurals of most nouns.
pub(crate) fn with_s(word: &str) -> String {
    let hissing = ["s", "x", "z", "ch", "sh"].iter().any(|end| word.ends_with(end));
    if hissing {
        return format!("{word}es");
    }
    if ends_with_consonant_y(word) {
        return format!("{}ies", &word[..word.len() - 1]);
    }
    format!("{word}s")
}

/// `wolf` → `wolves`.
pub(crate) fn plural(noun: &str) -> String {
    const ODD: &[(&str, &str)] = &[
        ("child", "children"),
        ("tooth", "teeth"),
        ("goose", "geese"),
        ("calf", "calves"),
        ("loaf", "loaves"),
        ("knife", "knives"),
        ("leaf", "leaves"),
        ("wolf", "wolves"),
        ("shelf", "shelves"),
        ("scarf", "scarves"),
        ("thief", "thieves"),
        ("sheep", "sheep"),
        ("deer", "deer"),
        ("potato", "potatoes"),
        ("cargo", "cargoes"),
        ("evidence", "pieces of evidence"),
        ("applause", "rounds of applause"),
        ("homework", "tasks"),
        ("fox", "foxes"),
    ];
    if let Some((_, many)) = ODD.iter().find(|(one, _)| *one == noun) {
        return (*many).to_owned();
    }
    if let Some(stem) = noun.strip_suffix("man")
        && !noun.ends_with("human")
    {
        return format!("{stem}men");
    }
    with_s(noun)
}

/// `a` or `an`.
pub(crate) fn article(word: &str) -> &'static str {
    let first = word.chars().next().unwrap_or('x').to_ascii_lowercase();
    let silent_h = word.starts_with("hour") || word.starts_with("honest");
    let as_consonant = ["uni", "use", "one", "eu"].iter().any(|head| word.starts_with(head));
    if (is_vowel(first) && !as_consonant) || silent_h { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn topics_have_all_parts_and_thousands_of_words() {
        let lexicon = Lexicon::load();
        assert!(lexicon.topics.len() >= 24);
        let mut forms = HashSet::new();
        for topic in &lexicon.topics {
            let parts = [&topic.agents, &topic.things, &topic.stuff, &topic.places];
            assert!(parts.iter().all(|part| part.len() >= 6), "{}", topic.name);
            assert!(topic.acts.len() >= 12 && topic.does.len() >= 3 && topic.adjectives.len() > 9);
            for noun in parts.into_iter().flatten() {
                forms.extend([(*noun).to_owned(), plural(noun)]);
            }
            for verb in topic.acts.iter().chain(&topic.does) {
                forms.extend([past(verb), participle(verb), gerund(verb), with_s(verb)]);
            }
            forms.extend(topic.adjectives.iter().map(|a| (*a).to_owned()));
        }
        assert!(forms.len() > 4000, "{}", forms.len());
    }

    #[test]
    fn words_bend_as_in_english() {
        let check = |got: String, want: &str| assert_eq!(got, want);
        check(past("carry"), "carried");
        check(past("chop"), "chopped");
        check(past("bake"), "baked");
        check(participle("write"), "written");
        check(gerund("weave"), "weaving");
        check(gerund("tie"), "tying");
        check(plural("fisherman"), "fishermen");
        check(plural("brush"), "brushes");
        check(with_s("study"), "studies");
        assert_eq!((article("oak"), article("union"), article("hour")), ("an", "a", "an"));
    }
}
