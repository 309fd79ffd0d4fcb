//! `adult-words`: pages that advertise pornography.
//!
//! Source: the paper's "dirty word" counts (§3.1.1, after Raffel et al. 2020). Ours is a density,
//! so that a page about medicine, law or art that has such words stays, and so does a novel with a
//! few oaths. Formula: words of the document's language's list ([`super::DirtyWords`]), those that
//! also occur elsewhere counted a half, over all words. Threshold: above 0.02, and at least 3.

use super::{EVERY, Judge, Rule, Set, View};

const MAX_SHARE: f32 = 0.02;
const MIN_COUNT: f32 = 3.0;

pub(super) const RULE: Rule = Rule {
    name: "adult-words",
    set: Set::Llama3,
    reason: "Advertisement for pornography is no text that anybody wants from a model.",
    limit: || format!("above {MAX_SHARE} of the words, and {MIN_COUNT} or more"),
    routes: EVERY,
    check,
};

fn check(view: &View, judge: &Judge) -> Option<f32> {
    let (sum, _) = judge.dirty.count(view);
    let share = sum / view.words.len().max(1) as f32;
    (sum >= MIN_COUNT && share > judge.most(MAX_SHARE)).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    #[test]
    fn pair() {
        let advert = "Hot nude webcam girls, hardcore xxx porn and sexy amateur escort tonight. ";
        tests::check(&RULE, &advert.repeat(3), true);
        let medicine = "The doctor spoke about breast cancer and sexual health in a lecture for \
            teens and adults; questions on sex and dating were welcome. ";
        tests::check(&RULE, &format!("{medicine}{}", tests::PROSE_SAMPLE), false);
    }

    #[test]
    fn pairs_of_other_languages() {
        let german = "Geile Hausfrauen nackt vor der Webcam, reife Schlampen wollen ficken. ";
        tests::check_in(&RULE, "de", german, true);
        let law = "Das Gericht befasste sich mit dem Vorwurf, der Verlag habe Pornos ohne Prüfung \
            des Alters angeboten; nackt war auf den Bildern niemand, und die Anklage wegen \
            sexueller Belästigung wurde im dritten Verfahren fallen gelassen, da kein Zeuge \
            erschien und die Akten des Amtes für Jugend nicht vollständig waren. Berufung ist \
            möglich, teilte ein Sprecher am Abend mit.";
        tests::check_in(&RULE, "de", law, false);
        let spanish = "Tetonas cachondas follando, mamadas y corridas, maduras desnudas gratis.";
        tests::check_in(&RULE, "es", spanish, true);
    }
}
