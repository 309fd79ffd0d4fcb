//! Whether a domain goes as a whole, from what its documents are like.
//!
//! A share of few documents says little: what is held against the limit is not the share but the
//! lower end of its 95 % interval (Wilson 1927), so that a small domain needs a clearer case. Pure
//! functions of counts that add up in any order. Not here: which documents have what.

/// Name of the score that says how harmful a document is: a classifier of the recipe or a score file
/// has it, or the input brings it along.
pub const HARM: &str = "harm";

/// What the documents of a domain are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its documents.
    pub documents: u64,
    /// Those with personal data.
    pub personal: u64,
    /// Those that the rule `adult-words` removes.
    pub adult: u64,
    /// Those whose score [`HARM`] reaches [`Limits::harm_score`].
    pub harm: u64,
}

/// When a domain goes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Fewest documents that are judged as a domain.
    pub min_documents: u64,
    /// Share of documents with personal data.
    pub personal: f64,
    /// Share of documents for adults.
    pub adult: f64,
    /// Share of harmful documents.
    pub harm: f64,
    /// The score from which on a document counts as harmful.
    pub harm_score: f32,
}

impl Default for Limits {
    /// Personal data is on many a good page (an imprint, a byline): most pages of a site must have
    /// it. The other two say what a site is for: a quarter of its pages is enough.
    fn default() -> Limits {
        Limits { min_documents: 10, personal: 0.5, adult: 0.25, harm: 0.25, harm_score: 0.5 }
    }
}

/// Why a domain goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Name of the rule, as it stands in fates.
    pub rule: &'static str,
    /// Lower end of the interval of the share.
    pub value: f64,
}

impl Counts {
    /// Counts a document.
    pub fn add(&mut self, personal: bool, adult: bool, harm: bool) {
        self.documents += 1;
        self.personal += u64::from(personal);
        self.adult += u64::from(adult);
        self.harm += u64::from(harm);
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Counts) {
        self.documents += other.documents;
        self.personal += other.personal;
        self.adult += other.adult;
        self.harm += other.harm;
    }

    /// Why the domain goes; `None` where it stays.
    pub fn judge(&self, limits: &Limits) -> Option<Verdict> {
        if self.documents < limits.min_documents.max(1) {
            return None;
        }
        let shares = [
            ("domain-adult", self.adult, limits.adult),
            ("domain-harm", self.harm, limits.harm),
            ("domain-personal-data", self.personal, limits.personal),
        ];
        shares.into_iter().find_map(|(rule, count, most)| {
            let value = lower_bound(count, self.documents);
            (value > most).then_some(Verdict { rule, value })
        })
    }
}

/// Lower end of the 95 % interval (Wilson) of a share of `count` in `of`.
pub fn lower_bound(count: u64, of: u64) -> f64 {
    if of == 0 || count == 0 {
        return 0.0;
    }
    const Z: f64 = 1.959_963_984_540_054;
    let (n, share) = (of as f64, count.min(of) as f64 / of as f64);
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((middle - spread) / (1.0 + Z * Z / n)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(counts: Counts, rule: Option<&str>) {
        assert_eq!(counts.judge(&Limits::default()).map(|v| v.rule), rule, "{counts:?}");
    }

    #[test]
    fn a_share_is_believed_from_enough_documents_on() {
        let adult = |adult, documents| Counts { documents, adult, ..Counts::default() };
        check(adult(9, 9), None);
        check(adult(10, 10), Some("domain-adult"));
        check(adult(4, 10), None);
        check(adult(400, 1000), Some("domain-adult"));
        check(adult(250, 1000), None);
        check(Counts { documents: 40, personal: 25, ..Counts::default() }, None);
        check(
            Counts { documents: 40, personal: 30, ..Counts::default() },
            Some("domain-personal-data"),
        );
        check(Counts { documents: 40, harm: 30, ..Counts::default() }, Some("domain-harm"));
        check(Counts::default(), None);
    }

    #[test]
    fn the_interval_is_wilsons() {
        for (count, of, expected) in [(10, 10, 0.7225), (5, 10, 0.2366), (1, 100, 0.0018)] {
            let found = lower_bound(count, of);
            assert!((found - expected).abs() < 1e-4, "{count} of {of}: {found}");
        }
        assert_eq!((lower_bound(0, 10), lower_bound(0, 0)), (0.0, 0.0));
    }

    #[test]
    fn counts_add_up_in_any_order() {
        let (mut a, mut b) = (Counts::default(), Counts::default());
        a.add(true, false, true);
        b.add(false, true, false);
        b.add(true, true, false);
        let (mut ab, mut ba) = (a, b);
        ab.merge(&b);
        ba.merge(&a);
        assert_eq!(ab, ba);
        assert_eq!(ab, Counts { documents: 3, personal: 2, adult: 2, harm: 1 });
    }
}
