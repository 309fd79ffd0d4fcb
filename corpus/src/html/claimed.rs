//! What a page itself says is the text of its article: `articleBody` in JSON-LD (`metadata.rs`) and
//! as `itemprop` of a box. Claims, not facts: some sites claim the first lines only, or everything
//! there is. So they are features beside others, and one of them is how much of the page's prose
//! the claim covers. Source: schema.org, `Article`.

use super::blocks::{Block, IN_BODY, Page};
use super::metadata::Claims;
use super::repeats::{self, RUN};

/// Features of a block.
pub const COUNT: usize = 6;
/// Shortest claimed body that says something, in words.
const LEAST: usize = 40;

/// The claims of a page, by block.
pub struct Claimed {
    /// Share of each block's runs of words that stand in the body of JSON-LD; none without a body.
    agreed: Option<Vec<f32>>,
    /// Shares of the page's prose that the two claims cover.
    covered: f32,
    boxed: f32,
}

impl Claimed {
    /// Lays the blocks of a page on what it claims.
    pub fn of(page: &Page, claims: &Claims) -> Claimed {
        let agreed = claims.body.as_deref().and_then(|body| agreement(page, body));
        let all: f32 = page.blocks.iter().map(prose).sum::<f32>().max(1.0);
        let shares = agreed.iter().flatten().zip(&page.blocks);
        let covered = shares.map(|(share, block)| share * prose(block)).sum::<f32>() / all;
        let inside = page.blocks.iter().filter(|b| b.marks & IN_BODY != 0);
        let boxed = inside.map(prose).sum::<f32>() / all;
        Claimed { agreed, covered, boxed }
    }

    /// The features of block `i`.
    pub fn features(&self, page: &Page, i: usize) -> [f32; COUNT] {
        let inside = f32::from(u8::from(page.blocks[i].marks & IN_BODY != 0));
        let beside = if self.boxed > 0.0 { 1.0 - inside } else { 0.0 };
        let boxed = [beside * self.boxed, inside * self.boxed, beside];
        let Some(agreed) = &self.agreed else {
            return [0.0, 0.0, 0.0, boxed[0], boxed[1], boxed[2]];
        };
        let share = agreed[i];
        [share, (1.0 - share) * self.covered, self.covered, boxed[0], boxed[1], boxed[2]]
    }
}

/// Characters of a block that is prose.
fn prose(block: &Block) -> f32 {
    let long = block.chars >= 80 && block.link_chars * 3 < block.chars;
    if long { block.chars as f32 } else { 0.0 }
}

fn agreement(page: &Page, body: &str) -> Option<Vec<f32>> {
    let words = repeats::words_of(body);
    if words.len() < LEAST {
        return None;
    }
    let runs_of =
        |words: &[u64], n: usize| words.windows(n).map(repeats::run_of).collect::<Vec<_>>();
    let mut long = runs_of(&words, RUN);
    let mut short = runs_of(&words, 1);
    long.sort_unstable();
    short.sort_unstable();
    let share = |block: &Block| {
        let words = repeats::words_of(page.text_of(block));
        let (n, known) = if words.len() < RUN { (1, &short) } else { (RUN, &long) };
        let runs = runs_of(&words, n);
        let found = runs.iter().filter(|run| known.binary_search(run).is_ok()).count();
        let share = found as f32 / runs.len().max(1) as f32;
        // a word or two stand in any long text
        if n == 1 { share * 0.5 } else { share }
    };
    Some(page.blocks.iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, blocks, metadata, parse};
    use super::*;

    const BODY: &str = "The mill stood on the river for three hundred years, and every family in \
        the valley brought its grain there, whatever the weather was. When the railway came, the \
        miller sold his stones to a museum; the wheel still turns when the water is high enough.";
    const OTHER: &str = "Nine bridges in the north of the country will be closed this winter, says \
        the office of roads, since their iron was found to be rusty by its engineers.";

    fn rows_of(html: &str) -> Vec<[f32; COUNT]> {
        let (tree, _) = parse(html, Budget::default());
        let page = blocks::flatten(&tree);
        let claimed = Claimed::of(&page, &metadata::read(&tree));
        (0..page.blocks.len()).map(|i| claimed.features(&page, i)).collect()
    }

    #[test]
    fn what_stands_in_the_claimed_body_agrees() {
        let claim = BODY.replace("miller", "mill\\u0065r").replace("sold", "\\\"sold\\\"");
        let script = format!(
            "<script type=application/ld+json>{{\"@type\":\"Article\", \"articleBody\" : \"{claim}\"}}</script>"
        );
        let rows = rows_of(&format!("{script}<body><p>{BODY}</p><p>{OTHER}</p>"));
        assert!(rows[0][0] == 1.0 && rows[1][0] == 0.0, "{rows:?}");
        assert!(rows[1][1] > 0.5 && rows[0][1] == 0.0, "{rows:?}");
        assert_eq!(rows_of(&format!("<p>{BODY}"))[0], [0.0; COUNT]);
        let cut = "<script type=application/ld+json>{\"articleBody\":\"The \\u00</script><p>x";
        assert_eq!(rows_of(cut)[0], [0.0; COUNT]);
    }

    #[test]
    fn boxes_that_are_the_body_are_told() {
        let rows = rows_of(&format!("<div itemprop=articleBody><p>{BODY}</div><p>{OTHER}"));
        assert!(rows[0][4] > 0.5 && rows[0][5] == 0.0, "{rows:?}");
        assert!(rows[1][3] > 0.5 && rows[1][5] == 1.0, "{rows:?}");
    }
}
