//! Each plan as SQL over a table of words `w0`, `w1`, ….
//!
//! All have one shape, because it is the one that neither memory nor the cluster can break: an
//! exchange by the first word, a sort within it (which spills), and windows that look a bounded
//! number of rows back or ahead, so that a group of any size goes by as a stream. No join, whose
//! build side would not spill; no window over a whole group; no aggregate by hash of many keys. The
//! input may hold a row several times (runs overlap), which each plan allows for; so may the
//! result, which is sorted and made distinct where it is collected.
//!
//! The words are unsigned for DataFusion too (`UInt64`): sorts, comparisons and sums agree with
//! those of the embedded shuffles, sums wrapping around included.

use crate::shuffle::Plan;

/// The SQL of a plan over rows of `width` words in `table`.
pub(super) fn sql(plan: Plan, width: usize, table: &str) -> String {
    match plan {
        Plan::First => first(width, table),
        Plan::Frequent(limit) => frequent(limit, table),
        Plan::Star => first(2, table),
        Plan::LargeStar => large_star(table),
        Plan::SmallStar => small_star(table),
        Plan::Sum => sum(table),
        Plan::Union => format!("SELECT w0, {} FROM {table}", after_key(width)),
    }
}

/// Whether each row `[a, b]` of the result stands for `[b, a]` as well, which is added where the
/// result is collected: half of the rows then travel.
pub(super) fn is_mirrored(plan: Plan) -> bool {
    matches!(plan, Plan::Star | Plan::SmallStar)
}

/// `w1, w2, …` of rows of `width` words.
fn after_key(width: usize) -> String {
    (1..width).map(|n| format!("w{n}")).collect::<Vec<_>>().join(", ")
}

/// The window of the rows with the same first word, in order.
fn group(width: usize) -> String {
    format!("PARTITION BY w0 ORDER BY {}", after_key(width))
}

/// Word `word` of the first row of the group.
fn of_first(word: &str, width: usize) -> String {
    let frame = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";
    format!("first_value({word}) OVER ({} {frame})", group(width))
}

fn first(width: usize, table: &str) -> String {
    let document = format!("w{}", width - 1);
    let kept = of_first(&document, width);
    format!(
        "SELECT document AS w0, kept AS w1 \
         FROM (SELECT {document} AS document, {kept} AS kept FROM {table}) AS grouped \
         WHERE document <> kept"
    )
}

/// The rows of a table, each once: those that differ from the row before them in their group.
fn distinct(width: usize, table: &str) -> String {
    let words: Vec<String> = (1..width).map(|n| format!("w{n}")).collect();
    let before: Vec<String> =
        words.iter().map(|w| format!("lag({w}) OVER ({}) AS before_{w}", group(width))).collect();
    let differs: Vec<String> = words.iter().map(|w| format!("{w} <> before_{w}")).collect();
    format!(
        "(SELECT w0, {words} FROM (SELECT w0, {words}, {before} FROM {table}) AS repeated \
         WHERE before_w1 IS NULL OR {differs}) AS once",
        words = words.join(", "),
        before = before.join(", "),
        differs = differs.join(" OR "),
    )
}

/// A group has more than `limit` rows exactly where it has a row number `limit + 1`, which every row
/// of it sees that looks `limit` rows ahead and all the way back.
fn frequent(limit: u64, table: &str) -> String {
    // No group has as many rows as that.
    let limit = limit.min(1 << 48);
    let frame = format!("ROWS BETWEEN UNBOUNDED PRECEDING AND {limit} FOLLOWING");
    format!(
        "SELECT w1 AS w0, w0 AS w1 \
         FROM (SELECT w0, w1, nth_value(w1, {}) OVER ({} {frame}) AS beyond FROM {}) AS counted \
         WHERE beyond IS NOT NULL",
        limit + 1,
        group(2),
        distinct(2, table),
    )
}

fn large_star(table: &str) -> String {
    // The first neighbour is the smallest; the node itself may be smaller still.
    format!(
        "SELECT w1 AS w0, CASE WHEN smallest < w0 THEN smallest ELSE w0 END AS w1 \
         FROM (SELECT w0, w1, {} AS smallest FROM {table}) AS grouped \
         WHERE w1 > w0",
        of_first("w1", 2),
    )
}

fn small_star(table: &str) -> String {
    // The row of the smallest neighbour is where the node itself is tied to it.
    format!(
        "SELECT CASE WHEN w1 = smallest THEN w0 ELSE w1 END AS w0, smallest AS w1 \
         FROM (SELECT w0, w1, {} AS smallest FROM {table}) AS grouped",
        of_first("w1", 2),
    )
}

fn sum(table: &str) -> String {
    format!("SELECT w0, sum(w2) AS w1, sum(w3) AS w2 FROM {} GROUP BY w0", distinct(4, table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use std::sync::Arc;

    /// The physical plan, as the planner prints it.
    fn planned(plan: Plan, width: usize) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fields = (0..width).map(|n| Field::new(format!("w{n}"), DataType::UInt64, false));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let empty = MemTable::try_new(schema, vec![vec![], vec![]]).unwrap();
        let context =
            SessionContext::new_with_config(SessionConfig::new().with_target_partitions(4));
        context.register_table("staged", Arc::new(empty)).unwrap();
        runtime.block_on(async {
            let frame = context.sql(&sql(plan, width, "staged")).await.unwrap();
            let physical = frame.create_physical_plan().await.unwrap();
            displayable(physical.as_ref()).indent(false).to_string()
        })
    }

    /// What would hold a group, a table or all keys in memory.
    const UNBOUNDED: [&str; 5] =
        ["JoinExec", " WindowAggExec", "CrossJoin", "mode=Partial", "SortPreservingMerge"];

    #[test]
    fn every_plan_is_an_exchange_a_sort_and_windows() {
        let plans = [
            (Plan::First, 2),
            (Plan::First, 3),
            (Plan::First, 4),
            (Plan::Frequent(6), 2),
            (Plan::Star, 2),
            (Plan::LargeStar, 2),
            (Plan::SmallStar, 2),
            (Plan::Sum, 4),
        ];
        for (plan, width) in plans {
            let text = planned(plan, width);
            for unbounded in UNBOUNDED {
                assert!(!text.contains(unbounded), "{plan:?} has {unbounded}:\n{text}");
            }
            assert!(text.contains("BoundedWindowAggExec"), "{plan:?}:\n{text}");
            let sorts = text.matches("SortExec").count();
            let exchanges = text.matches("partitioning=Hash").count();
            assert_eq!((sorts, exchanges), (1, 1), "{plan:?}:\n{text}");
        }
    }

    #[test]
    fn a_limit_beyond_any_group_is_still_sql() {
        assert!(planned(Plan::Frequent(u64::MAX), 2).contains("BoundedWindowAggExec"));
        assert!(planned(Plan::Frequent(0), 2).contains("BoundedWindowAggExec"));
    }
}
