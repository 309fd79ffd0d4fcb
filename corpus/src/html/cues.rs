//! What the first words of a line say of it: "Read more", "Photo:", "Subscribe", "3 comments". A
//! closed list of everyday words of web pages in the languages that are most on the web, folded
//! to some kinds; a word is one weak sign among two hundred (`features.rs`), never a verdict. Not
//! here: names in markup (`hints.rs`).

use std::collections::HashMap;
use std::sync::OnceLock;

/// A set of cues.
pub type Cues = u32;

/// Words of a line that are looked at.
const FIRST: usize = 9;
/// Longest word of the list, in bytes.
const LONGEST: usize = 24;

const WORDS: &[&str] = &[
    // related pages
    "related recommended read more also see next previous miss trending popular latest continue \
     leia mais também lesen auch mehr lire aussi plus ver además también читайте также ещё leggi \
     anche lees ook czytaj też więcej 関連 相关",
    // readers' comments
    "comment comments reply replies discussion commented kommentare kommentar commentaires \
     comentários comentarios комментарии reacties commenti komentarze responses login log respond",
    // sharing and following
    "share tweet follow facebook twitter instagram pinterest linkedin whatsapp email print teilen \
     partager compartilhar compartir поделиться youtube telegram condividi",
    // subscribing
    "subscribe newsletter newsletters sign signup join register inbox abonnieren abonnez \
     suscríbete assine inscreva подписаться подпишитесь iscriviti updates alerts donate support",
    // legal lines
    "copyright rights reserved privacy cookies cookie terms policy disclaimer imprint impressum \
     datenschutz trademarks licensed all ©",
    // pictures and their makers
    "photo photos image images picture credit getty reuters ap afp courtesy photograph foto bild \
     fotos imagem imagen фото crédit caption video watch gallery file shutterstock via source",
    // dates and times
    "published updated posted date modified january february march april may june july august \
     september october november december jan feb mar apr jun jul aug sep sept oct nov dec monday \
     tuesday wednesday thursday friday saturday sunday ago hours minutes min am pm est utc \
     veröffentlicht publié publicado atualizado опубликовано",
    // who wrote it
    "by author written editor reporter correspondent staff von par por autor автор follow about \
     contributor writer journalist bio",
    // buying
    "price cart buy add stock shipping delivery order checkout sale off free quantity wishlist \
     warenkorb panier carrito carrinho prix preis precio in",
    // tools of the page
    "click here loading load show view close menu search skip back top home edit download print \
     open expand hide toggle select filter sort page pages results button clear apply refresh \
     javascript browser enable",
    // advertising
    "advertisement advertising ad ads sponsored promoted anzeige publicité publicidade publicidad \
     реклама affiliate commission partner deal deals offer offers",
    // categories
    "tags tag category categories filed topics topic under labels schlagwörter etiquetas теги \
     archive archives section keywords",
    // users of a forum
    "posts joined member location quote reputation registered likes thanks moderator senior junior \
     user thread rank message messages wrote said registriert beiträge участник views votes",
];

/// The cue of other pages.
pub const RELATED: Cues = 1;
/// The cue of dates and times.
pub const DATE: Cues = 1 << 6;
/// The cue of who wrote it.
pub const AUTHOR: Cues = 1 << 7;
/// How many cues there are: the kinds above, and a first word that ends in a colon.
pub const COUNT: usize = WORDS.len() + 1;
/// A first word that ends in a colon.
pub const LABEL: Cues = 1 << WORDS.len();

fn table() -> &'static HashMap<&'static str, Cues> {
    static TABLE: OnceLock<HashMap<&'static str, Cues>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = HashMap::new();
        for (kind, words) in WORDS.iter().enumerate() {
            for word in words.split_ascii_whitespace() {
                *table.entry(word).or_insert(0) |= 1 << kind;
            }
        }
        table
    })
}

/// Cues of words that are looked for in all of a short line: readers' comments, sharing,
/// subscribing, legal lines.
pub const SAID: [Cues; 4] = [1 << 1, 1 << 2, 1 << 3, 1 << 4];
/// Longest line of which all words are looked at, in words.
const SHORT: u32 = 60;

/// The cues of all words of a line of so many words, of whose first words they are known; none if
/// it is long.
pub fn of_whole(text: &str, words: u32, first: Cues) -> Cues {
    if words > SHORT {
        return 0;
    }
    let mut word = String::with_capacity(LONGEST);
    let rest = text.split_whitespace().skip(FIRST);
    rest.fold(first, |cues, raw| cues | of_word(raw, &mut word))
}

/// The cues of a line: those of its first words, and the sign of a label before a colon.
pub fn of_line(text: &str) -> Cues {
    let mut cues = 0;
    let mut word = String::with_capacity(LONGEST);
    for (i, raw) in text.split_whitespace().take(FIRST).enumerate() {
        if i < 3 && raw.ends_with([':', '：']) {
            cues |= LABEL;
        }
        cues |= of_word(raw, &mut word);
    }
    cues
}

/// The cues of a word as it stands in a line; `word` is room to fold it in.
fn of_word(raw: &str, word: &mut String) -> Cues {
    word.clear();
    if raw.is_ascii() {
        let letters = raw.bytes().filter(u8::is_ascii_alphanumeric).take(LONGEST);
        word.extend(letters.map(|b| char::from(b.to_ascii_lowercase())));
    } else {
        let letters = raw.chars().filter(|c| c.is_alphanumeric() || *c == '©').take(LONGEST);
        word.extend(letters.flat_map(char::to_lowercase));
    }
    table().get(word.as_str()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words_are_told() {
        assert_eq!(of_line("Photo: a mill"), 1 << 5 | LABEL);
        assert_eq!(of_line("RELATED: x"), 1 | LABEL);
        assert_eq!(of_line("Kommentare (3)"), 1 << 1);
        assert_eq!(of_line("The mill stood on the river long before the war, they say. Photo"), 0);
        assert_eq!(of_line(""), 0);
        let late = "The mill stood on the river long before the war, they say. Comments";
        assert_eq!(of_whole(late, 13, 1), 1 << 1 | 1);
        assert_eq!((of_whole(late, 99, 1), of_whole("Share", 1, 0)), (0, 0));
    }
}
