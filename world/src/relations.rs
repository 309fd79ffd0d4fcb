//! The relations the world examines: who may have them, which values they take, and how they are
//! stated, asked and answered.
//!
//! NOT the facts themselves (those are drawn in `simulation`). A pattern is a small grammar:
//! `[a|b]` is a choice, `{s}` the subject, `{v}` the value, `{n}` the value with its article, `{a}`
//! an aside that may stand after the subject, `{l}` an opening that may stand before the sentence.
//! Questions come in forms used in dialogues and forms kept for the examination alone. Varied
//! wording is what makes knowledge extractable: Allen-Zhu and Li, "Physics of Language Models 3.1".

use crate::lexicon::article;
use crate::names::capital;
use crate::random::Draw;

/// What kind of thing a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Person,
    Firm,
    Village,
    Animal,
    Town,
}

/// Where the values of a relation come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    /// The towns of this world.
    Towns,
    /// The rivers of this world.
    Rivers,
    /// Words of English.
    Words(&'static [&'static str]),
}

/// One relation.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Its row in a table.
    pub(crate) label: &'static str,
    pub(crate) values: Values,
    pub(crate) statements: &'static [&'static str],
    /// Forms used in dialogues, and in the examination.
    pub(crate) questions: &'static [&'static str],
    /// Forms used in the examination alone.
    pub(crate) held_out: &'static [&'static str],
    /// Without the subject, which the question has named.
    pub(crate) answers: &'static [&'static str],
}

const TRADES: &[&str] = &[
    "baker",
    "weaver",
    "potter",
    "surgeon",
    "notary",
    "mason",
    "tanner",
    "glazier",
    "beekeeper",
    "engraver",
    "cooper",
    "brewer",
    "saddler",
    "organist",
    "surveyor",
    "midwife",
    "printer",
    "roofer",
    "florist",
    "gunsmith",
    "judge",
    "chemist",
    "teacher",
    "sculptor",
    "ferryman",
    "cobbler",
    "locksmith",
    "astronomer",
    "fisherman",
    "tailor",
    "hatter",
    "miller",
];
const INSTRUMENTS: &[&str] = &[
    "violin",
    "flute",
    "harp",
    "trumpet",
    "cello",
    "oboe",
    "drum",
    "lute",
    "organ",
    "clarinet",
    "zither",
    "banjo",
    "bassoon",
    "tuba",
    "piccolo",
    "guitar",
    "mandolin",
    "viola",
    "trombone",
    "harpsichord",
    "bagpipe",
    "accordion",
    "tambourine",
    "xylophone",
    "horn",
    "fiddle",
    "cornet",
    "spinet",
    "recorder",
    "whistle",
];
const PRODUCTS: &[&str] = &[
    "candles",
    "buttons",
    "saddles",
    "clocks",
    "ropes",
    "umbrellas",
    "lanterns",
    "needles",
    "tiles",
    "barrels",
    "mirrors",
    "gloves",
    "pencils",
    "bells",
    "carpets",
    "scissors",
    "stoves",
    "bicycles",
    "kettles",
    "brushes",
    "envelopes",
    "anchors",
    "matches",
    "corsets",
    "pianos",
    "thermometers",
    "marbles",
    "whips",
    "wigs",
    "compasses",
];
const COLOURS: &[&str] = &[
    "red",
    "green",
    "blue",
    "yellow",
    "purple",
    "orange",
    "brown",
    "white",
    "black",
    "grey",
    "pink",
    "crimson",
    "violet",
    "turquoise",
    "beige",
    "scarlet",
    "amber",
    "olive",
    "indigo",
    "maroon",
    "lilac",
    "ochre",
    "silver",
    "golden",
];
const DISHES: &[&str] = &[
    "dumplings",
    "pancakes",
    "chowder",
    "gingerbread",
    "sausages",
    "goulash",
    "porridge",
    "waffles",
    "omelettes",
    "meatballs",
    "pickles",
    "noodles",
    "marzipan",
    "cheesecake",
    "doughnuts",
    "casserole",
    "fritters",
    "nougat",
    "pretzels",
    "pasties",
    "sauerkraut",
    "trifle",
    "stuffing",
    "macaroons",
    "kippers",
    "toffee",
    "lasagne",
    "risotto",
    "pudding",
    "strudel",
];
const STONES: &[&str] = &[
    "granite",
    "marble",
    "slate",
    "limestone",
    "sandstone",
    "basalt",
    "brick",
    "timber",
    "flint",
    "chalk",
    "clay",
    "cobble",
    "quartz",
    "shale",
    "tuff",
    "pumice",
    "oak",
    "larch",
    "concrete",
    "travertine",
    "gneiss",
    "adobe",
    "cedar",
    "bamboo",
];
const HABITATS: &[&str] = &[
    "marshes",
    "caves",
    "dunes",
    "orchards",
    "cliffs",
    "heaths",
    "swamps",
    "glaciers",
    "reefs",
    "meadows",
    "deserts",
    "canyons",
    "hedges",
    "ruins",
    "lagoons",
    "pinewoods",
    "barns",
    "moors",
    "ravines",
    "vineyards",
    "estuaries",
    "rooftops",
    "savannas",
    "thickets",
];
const FOODS: &[&str] = &[
    "beetles",
    "acorns",
    "snails",
    "clover",
    "herring",
    "berries",
    "moths",
    "roots",
    "worms",
    "frogs",
    "seeds",
    "mushrooms",
    "lizards",
    "moss",
    "crabs",
    "grasshoppers",
    "nettles",
    "nuts",
    "eels",
    "ants",
    "spiders",
    "reeds",
    "apples",
    "mice",
];

/// All relations, those of one kind together.
pub(crate) const RELATIONS: &[Relation] = &[
    Relation {
        name: "birthplace",
        kind: Kind::Person,
        label: "Birthplace",
        values: Values::Towns,
        statements: &[
            "{l}{s}{a} was born in {v}",
            "{l}{s}{a} [came into the world|first saw daylight|spent the first years] in {v}",
            "{v} is the [birthplace|native town|home town] of {s}",
            "it was in {v} that {s}{a} was born",
            "{l}{s}{a} is a native of {v}",
            "by birth {s} [belongs to|comes from|is of] {v}",
            "[the town of |]{v} [remembers|still honours|is proud of] {s}, who was born there",
            "{l}{s}{a} had [parents|a family|a mother and an uncle] in {v} and was born there",
            "people in {v} [still talk of|often mention|like to recall] {s}, a child of the town",
            "the birth of {s}{a} is [recorded|written down|entered] in the books of {v}",
            "like [many others|half the street|two cousins], {s} was born in {v}",
            "{l}{s}{a} left {v}, the [place|town] of birth, [at twenty|rather late|as a child]",
        ],
        questions: &[
            "Where was {s} born?",
            "In which town was {s} born?",
            "What is the birthplace of {s}?",
            "Which town is the birthplace of {s}?",
            "Tell me where {s} was born.",
        ],
        held_out: &["{s} was born in which place?", "Can you name the native town of {s}?"],
        answers: &["In {v}."],
    },
    Relation {
        name: "trade",
        kind: Kind::Person,
        label: "Trade",
        values: Values::Words(TRADES),
        statements: &[
            "{l}{s}{a} [worked|earned a living|was known|made a name] as {n}",
            "{l}{s}{a} is {n} by trade",
            "{l}{s}{a} [became|was trained to be|learned to be] {n}",
            "the {v} {s} [opened the door|came late|was asked for advice|signed the book]",
            "{n} by [profession|trade|training], {s} [kept long hours|seldom rested|had friends]",
            "everybody [needed|praised|knew] the {v} of the street, {s}",
            "as {n}, {s}{a} [was in demand|was paid well|had few rivals]",
            "the [guild|register|sign on the door] names {s} as {n}",
            "no other {v} was as [busy|patient|famous] as {s}",
            "the [trade|profession] of {s}{a} is that of {n}",
            "{l}{s}{a} never wanted to be anything but {n}",
        ],
        questions: &[
            "What is the trade of {s}?",
            "What does {s} do for a living?",
            "What was the profession of {s}?",
            "Which trade did {s} learn?",
            "Tell me the trade of {s}.",
        ],
        held_out: &["{s} works as what?", "How does {s} earn a living?"],
        answers: &["{n}."],
    },
    Relation {
        name: "instrument",
        kind: Kind::Person,
        label: "Instrument",
        values: Values::Words(INSTRUMENTS),
        statements: &[
            "{l}{s}{a} [plays|played|practised|studied] the {v}",
            "the {v} is the instrument of {s}",
            "on the {v}, {s} [has no equal|needs no notes|knows a hundred tunes]",
            "{l}{s}{a} [owns|bought|inherited] a {v} and plays it [daily|after supper|at weddings]",
            "the sound of the {v} [means|tells everybody|is a sign] that {s} is [home|near|awake]",
            "in the band {s} [holds|takes|has] the {v}",
            "whoever hears a {v} in that street thinks of {s}",
            "{l}{s}{a} took lessons on the {v}",
            "a {v} hangs on the wall of {s}",
            "music means the {v} to {s}",
        ],
        questions: &[
            "Which instrument does {s} play?",
            "What instrument does {s} play?",
            "What is the instrument of {s}?",
            "On which instrument does {s} play?",
            "Tell me which instrument {s} plays.",
        ],
        held_out: &["{s} plays which instrument?", "What does {s} play in the band?"],
        answers: &["The {v}."],
    },
    Relation {
        name: "product",
        kind: Kind::Firm,
        label: "Product",
        values: Values::Words(PRODUCTS),
        statements: &[
            "{l}{s}{a} [makes|produces|manufactures|turns out] {v}",
            "{v} are [made|produced|manufactured] by {s}",
            "{l}{s}{a} [is known for|lives from|has always sold] {v}",
            "whoever [needs|orders|wants] {v} writes to {s}",
            "the {v} of {s} [sell well|are sold everywhere|last for years]",
            "at {s} [they make|the workers make|everything turns on] {v}",
            "no firm makes better {v} than {s}",
            "in the works of {s} [stand|lie|wait] [crates|boxes|heaps] of {v}",
            "{v} [brought|earned|won] {s} its [name|fortune|customers]",
            "the trade in {v} [made|keeps] {s} [rich|busy|going]",
        ],
        questions: &[
            "What does {s} make?",
            "What is made by {s}?",
            "Which product does {s} make?",
            "What does the firm {s} produce?",
            "Tell me what {s} makes.",
        ],
        held_out: &["{s} manufactures which goods?", "What is {s} known for making?"],
        answers: &["{v}."],
    },
    Relation {
        name: "seat",
        kind: Kind::Firm,
        label: "Seat",
        values: Values::Towns,
        statements: &[
            "{l}{s}{a} has its [seat|head office|works] in {v}",
            "{l}{s}{a} is based in {v}",
            "the [offices|works|gates] of {s} stand in {v}",
            "in {v} {s} [employs|feeds|trains] half a street",
            "{v} is the seat of {s}",
            "[letters|orders|bills] for {s} go to {v}",
            "{l}{s}{a} [was founded|opened its doors|still pays its taxes] in {v}",
            "the largest firm of {v} is {s}",
            "visitors to {v} are shown the [yard|chimney|sign] of {s}",
            "from {v}, {s} [sends|ships|delivers] to every village",
        ],
        questions: &[
            "Where is {s} based?",
            "In which town is {s} based?",
            "Which town is the seat of {s}?",
            "Where does {s} have its seat?",
            "Tell me where {s} is based.",
        ],
        held_out: &["{s} is based in which place?", "Where are the works of {s}?"],
        answers: &["In {v}."],
    },
    Relation {
        name: "colour",
        kind: Kind::Firm,
        label: "Colour",
        values: Values::Words(COLOURS),
        statements: &[
            "the [wagons|vans|carts] of {s} are painted {v}",
            "{v} is the colour of {s}",
            "{l}{s}{a} [uses|chose|registered] {v} as its colour",
            "at {s} [everything|the gate|each box] is {v}",
            "the {v} [sign|flag|label] of {s} [hangs over the door|can be seen from afar]",
            "{l}{s}{a} paints its [doors|crates|carts] {v}",
            "a {v} [stripe|seal|ribbon] marks every parcel from {s}",
            "workers of {s} wear {v} [aprons|caps|coats]",
            "one knows {s} by its {v} [roof|paint|paper]",
        ],
        questions: &[
            "What is the colour of {s}?",
            "Which colour does {s} use?",
            "In which colour are the wagons of {s} painted?",
            "What colour did {s} choose?",
            "Tell me the colour of {s}.",
        ],
        held_out: &["{s} has which colour?", "What colour is the sign of {s}?"],
        answers: &["{v}."],
    },
    Relation {
        name: "river",
        kind: Kind::Village,
        label: "River",
        values: Values::Rivers,
        statements: &[
            "{l}{s}{a} lies on the river {v}",
            "the river {v} [runs through|flows past|waters|sometimes floods] {s}",
            "{l}{s}{a} stands on the bank of the {v}",
            "the {v} [turns the mills of|carries boats to|gives fish to] {s}",
            "a bridge over the {v} leads into {s}",
            "on the {v} one comes to {s}",
            "between two bends of the {v} lies {s}",
            "{l}{s}{a} [takes its water from|was built beside|owes its meadows to] the {v}",
            "the ferry on the {v} stops at {s}",
        ],
        questions: &[
            "On which river does {s} lie?",
            "Which river runs through {s}?",
            "What is the river of {s}?",
            "Which river flows past {s}?",
            "Tell me on which river {s} lies.",
        ],
        held_out: &["{s} lies on which river?", "What river has {s} on its bank?"],
        answers: &["On the river {v}."],
    },
    Relation {
        name: "dish",
        kind: Kind::Village,
        label: "Dish",
        values: Values::Words(DISHES),
        statements: &[
            "{l}{s}{a} is [famous|known|praised] for its {v}",
            "the {v} of {s} [are praised everywhere|taste of smoke|cost little]",
            "{v} are the dish of {s}",
            "in {s} they [serve|cook|eat] {v} [every Sunday|at every feast|all winter]",
            "travellers come to {s} for the {v}",
            "no feast in {s} is held without {v}",
            "every inn of {s} [offers|serves|sells] {v}",
            "with {v} {s} [won a prize|feeds its guests]",
            "{l}{s}{a} [holds a fair|has an old recipe|keeps a festival] of {v}",
        ],
        questions: &[
            "What is the dish of {s}?",
            "For which dish is {s} known?",
            "What do people eat in {s}?",
            "Which dish is {s} famous for?",
            "Tell me the dish of {s}.",
        ],
        held_out: &["{s} is known for which food?", "What is served at every inn of {s}?"],
        answers: &["{v}."],
    },
    Relation {
        name: "material",
        kind: Kind::Village,
        label: "Material",
        values: Values::Words(STONES),
        statements: &[
            "the houses of {s} are built of {v}",
            "{l}{s}{a} is built of {v}",
            "in {s} [they build|everybody builds|walls are built] with {v}",
            "{v} is the material of {s}",
            "the walls of {s}{a} are of {v}",
            "{v} [gives|lends] {s} its [look|colour|beauty]",
            "from {v} the masons of {s} [make|raise] whole streets",
            "carts full of {v} [roll|rolled] into {s}",
            "{l}{s}{a} used {v} for its [church|hall|bridges|walls]",
        ],
        questions: &[
            "What is {s} built of?",
            "Of which material are the houses of {s} built?",
            "What are the houses of {s} built of?",
            "Which material is used in {s}?",
            "Tell me what {s} is built of.",
        ],
        held_out: &["{s} is built of which material?", "What are the walls of {s} made of?"],
        answers: &["Of {v}."],
    },
    Relation {
        name: "habitat",
        kind: Kind::Animal,
        label: "Habitat",
        values: Values::Words(HABITATS),
        statements: &[
            "{l}the {s}{a} lives in {v}",
            "{v} are the home of the {s}",
            "the {s}{a} [is found|is seen|nests|hides|breeds] in {v}",
            "whoever walks through {v} may meet the {s}",
            "in {v} the {s} [has few enemies|raises its young|spends the winter]",
            "the {s}{a} never leaves the {v}",
            "among {v} one [hears|finds] the {s}",
            "the habitat of the {s} is {v}",
            "{l}the {s}{a} needs {v} to [live|breed]",
        ],
        questions: &[
            "Where does the {s} live?",
            "In what habitat does the {s} live?",
            "What is the habitat of the {s}?",
            "Where is the {s} found?",
            "Tell me where the {s} lives.",
        ],
        held_out: &["The {s} lives in which surroundings?", "Where would one look for the {s}?"],
        answers: &["In {v}."],
    },
    Relation {
        name: "food",
        kind: Kind::Animal,
        label: "Food",
        values: Values::Words(FOODS),
        statements: &[
            "{l}the {s}{a} [eats|feeds on|lives on|prefers] {v}",
            "{v} are the food of the {s}",
            "the {s}{a} [searches for|digs for|carries off|stores] {v}",
            "nothing pleases the {s} like {v}",
            "the diet of the {s} consists of {v}",
            "with {v} one [lures|feeds|tames] the {s}",
            "{v} are eaten by the {s}",
            "{l}the {s}{a} will not touch anything but {v}",
            "where there are {v} the {s} [comes|is not far|grows fat]",
        ],
        questions: &[
            "What does the {s} eat?",
            "What is the food of the {s}?",
            "On what does the {s} feed?",
            "Which food does the {s} eat?",
            "Tell me what the {s} eats.",
        ],
        held_out: &["The {s} feeds on what?", "What would you give the {s} to eat?"],
        answers: &["{v}."],
    },
    Relation {
        name: "town-river",
        kind: Kind::Town,
        label: "River",
        values: Values::Rivers,
        statements: &[
            "{l}the town of {s} lies on the river {v}",
            "the river {v} [runs through|flows past|floods] {s}",
            "in {s} the {v} is [wide|slow|deep]",
            "{s}{a} stands on the bank of the {v}",
            "the {v} [turns the mills of|carries boats to] {s}",
        ],
        questions: &["On which river does the town of {s} lie?", "What river flows through {s}?"],
        held_out: &["The town of {s} lies on which river?"],
        answers: &["On the river {v}."],
    },
];

const OPENINGS: &[&str] = &[
    "As the old books say, ",
    "It is certain that ",
    "According to the register, ",
    "By the way, ",
    "As we reported, ",
    "Nobody doubts that ",
    "The sources agree that ",
    "As everybody knows, ",
    "Visitors are told that ",
    "One should know that ",
    "In those years ",
    "It is said that ",
    "The parish notes that ",
    "A letter shows that ",
    "We found that ",
    "As usual, ",
];
const PERSON_ASIDES: &[&str] = &[
    ", who kept two goats,",
    ", always careful with money,",
    ", the youngest of five,",
    ", a friend of the mayor,",
    ", now seventy years old,",
    ", whom many called stubborn,",
    ", a tall and quiet person,",
    ", after a long illness,",
    ", it is said,",
    ", like an uncle,",
    ", who wrote many letters,",
    ", as the family tells,",
];
const THING_ASIDES: &[&str] = &[
    ", it is said,",
    ", as all agree,",
    ", for many years now,",
    ", according to the guide,",
    ", like few others,",
    ", in spite of the war,",
    ", as the map shows,",
    ", to this day,",
    ", as far as is known,",
    ", without exception,",
    ", oddly enough,",
];
const TAILS: &[&str] = &[
    ", as the register shows",
    ", and few people know it",
    ", according to the guide",
    ", which is no secret",
    ", if the papers are right",
    ", as was written before",
    ", and the neighbours say so",
    ", to the delight of visitors",
    ", then as now",
];

/// Fills a pattern: choices, subject, value, aside and opening.
pub(crate) fn fill(
    pattern: &str,
    kind: Kind,
    subject: &str,
    value: &str,
    draw: &mut Draw,
) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find(['[', '{']) {
        out.push_str(&rest[..at]);
        let close = if rest[at..].starts_with('[') { ']' } else { '}' };
        let end = rest[at..].find(close).map_or(rest.len(), |e| at + e);
        let inner = &rest[at + 1..end];
        match (close, inner) {
            (']', _) => {
                let choices: Vec<&str> = inner.split('|').collect();
                out.push_str(draw.pick(&choices));
            }
            (_, "s") => out.push_str(subject),
            (_, "v") => out.push_str(value),
            (_, "n") => out.push_str(&format!("{} {value}", article(value))),
            (_, "a") if draw.chance(0.3) => {
                let person = kind == Kind::Person;
                out.push_str(draw.pick(if person { PERSON_ASIDES } else { THING_ASIDES }));
            }
            (_, "l") if draw.chance(0.25) => out.push_str(draw.pick(OPENINGS)),
            _ => {}
        }
        rest = rest.get(end + 1..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

impl Relation {
    /// One wording of the fact, a whole sentence.
    pub(crate) fn state(&self, subject: &str, value: &str, draw: &mut Draw) -> String {
        let pattern = draw.pick(self.statements);
        let mut text = fill(pattern, self.kind, subject, value, draw);
        if draw.chance(0.15) {
            text.push_str(draw.pick(TAILS));
        }
        capital(&text) + "."
    }

    /// The question in form number `form`, of the dialogues' forms or the held-out ones.
    pub(crate) fn ask(&self, subject: &str, form: usize, held_out: bool) -> String {
        let forms = if held_out { self.held_out } else { self.questions };
        forms[form % forms.len()].replace("{s}", subject)
    }

    /// A short answer: the value in its preposition or article, with a capital and a full stop.
    pub(crate) fn answer(&self, value: &str, draw: &mut Draw) -> String {
        let pattern = draw.pick(self.answers);
        capital(&fill(pattern, self.kind, "", value, draw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_relation_has_dozens_of_wordings_that_hold_subject_and_value() {
        for relation in RELATIONS {
            let mut draw = Draw::keyed(3, relation.name, 0);
            let mut wordings = HashSet::new();
            for _ in 0..300 {
                let text = relation.state("Mira Tolven", "velt", &mut draw);
                assert!(
                    text.contains("Mira Tolven") && text.to_lowercase().contains("velt"),
                    "{text}"
                );
                assert!(!text.contains(['[', '{', '}', ']', '|']), "{text}");
                wordings.insert(text);
            }
            assert!(wordings.len() >= 48, "{}: {}", relation.name, wordings.len());
        }
    }

    #[test]
    fn examined_values_are_many_and_held_out_forms_differ() {
        for relation in RELATIONS {
            if let Values::Words(words) = relation.values {
                let distinct: HashSet<&&str> = words.iter().collect();
                assert!(distinct.len() >= 24 && distinct.len() == words.len(), "{}", relation.name);
            }
            assert!(relation.held_out.iter().all(|form| !relation.questions.contains(form)));
        }
    }
}
