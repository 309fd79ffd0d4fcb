//! One SQL predicate over one document at a time: `language = 'en' and scores['links'] < 0.2`.
//!
//! DataFusion parses it, checks it against the columns and evaluates it batch by batch. A predicate
//! sees one row: no subquery, no aggregate, no window; and it says the same of a document every
//! time, so no `random()` and no `now()`. Null counts as no. Not here: where documents come from.

use super::Error;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, SchemaError};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

/// A predicate over the columns it was checked against.
pub struct Predicate {
    text: String,
    columns: Vec<String>,
    evaluate: Arc<dyn PhysicalExpr>,
}

impl Predicate {
    /// Parses `text` and checks it against the columns of `schema`.
    ///
    /// # Errors
    /// Says what is wrong, where in the text, and which columns there are.
    pub fn new(text: &str, schema: &Schema) -> Result<Predicate, Error> {
        let context = SessionContext::new_with_config(SessionConfig::new());
        let fail = |error: DataFusionError| explained(text, schema, &error);
        let columns = DFSchema::try_from(schema.clone()).map_err(fail)?;
        let expression = context.parse_sql_expr(text, &columns).map_err(fail)?;
        refuse_more_than_a_row(text, &expression)?;
        let read = expression.column_refs();
        // Only what it reads: the other columns need not be decoded.
        let fields = schema.fields().iter().filter(|f| read.iter().any(|c| c.name == *f.name()));
        let needed = Schema::new(fields.cloned().collect::<Vec<_>>());
        let columns = DFSchema::try_from(needed.clone()).map_err(fail)?;
        let evaluate = context.create_physical_expr(expression, &columns).map_err(fail)?;
        let kind = evaluate.data_type(&needed).map_err(fail)?;
        if kind != DataType::Boolean {
            let reason = format!("a predicate is true or false, this one is a {kind}");
            return Err(Error::Predicate { predicate: text.to_owned(), position: None, reason });
        }
        let columns = needed.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Predicate { text: text.to_owned(), columns, evaluate })
    }

    /// The predicate as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The columns that it reads, in the order of the schema.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Says of each row of a batch whether it holds. Columns it does not read may be absent.
    ///
    /// # Errors
    /// A batch without a column it reads; a value that cannot be computed, such as a cast.
    pub fn holds(&self, batch: &RecordBatch) -> Result<Vec<bool>, Error> {
        let fail = |reason: String| Error::Predicate {
            predicate: self.text.clone(),
            position: None,
            reason,
        };
        let schema = batch.schema();
        let place = |name: &String| {
            schema.index_of(name).map_err(|_| fail(format!("no column {name:?} in these rows")))
        };
        let places = self.columns.iter().map(place).collect::<Result<Vec<usize>, Error>>()?;
        let needed = batch.project(&places).map_err(|e| fail(e.to_string()))?;
        let value = self.evaluate.evaluate(&needed).map_err(|e| fail(e.strip_backtrace()))?;
        let array = value.into_array(batch.num_rows()).map_err(|e| fail(e.to_string()))?;
        let holds: &BooleanArray = array.as_boolean();
        Ok((0..holds.len()).map(|row| holds.is_valid(row) && holds.value(row)).collect())
    }
}

/// Refuses what does not look at one document alone, or not always the same way.
fn refuse_more_than_a_row(text: &str, expression: &Expr) -> Result<(), Error> {
    let mut found = None;
    let walk = expression.apply(|part| {
        let name = match part {
            Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) => {
                Some("a subquery".to_owned())
            }
            Expr::AggregateFunction(call) => Some(format!("the aggregate {}", call.func.name())),
            Expr::WindowFunction(_) => Some("a window".to_owned()),
            // The planner names a function that has several names by the one that was written.
            Expr::Alias(alias) if !alias.name.contains('(') => {
                Some(format!("a name ({}) after the predicate", alias.name))
            }
            Expr::ScalarFunction(call)
                if call.func.signature().volatility != Volatility::Immutable =>
            {
                Some(format!("{}(), which is not the same every time", call.func.name()))
            }
            _ => None,
        };
        found = name;
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    let reason = match (walk, found) {
        (Ok(_), None) => return Ok(()),
        (_, Some(found)) => {
            format!("found {found}; a predicate looks at the columns of one document and no more")
        }
        (Err(error), None) => error.strip_backtrace(),
    };
    Err(Error::Predicate { predicate: text.to_owned(), position: None, reason })
}

/// An error of DataFusion with its place in the text and the columns that there are.
fn explained(text: &str, schema: &Schema, error: &DataFusionError) -> Error {
    let (position, reason) = match error.find_root() {
        DataFusionError::SchemaError(schema_error, _) => match schema_error.as_ref() {
            SchemaError::FieldNotFound { field, .. } => {
                (place_of_word(text, &field.name), unknown_column(field, schema))
            }
            other => (None, other.to_string()),
        },
        DataFusionError::SQL(parser, _) => {
            let message = parser.to_string();
            let message = message.trim_start_matches("sql parser error: ");
            let (said, place) = without_place(text, message);
            (place, format!("{said}; write a predicate such as language = 'en'"))
        }
        other => {
            let message = other.strip_backtrace();
            let bare = message.trim_start_matches("Error during planning: ");
            (None, first_line(bare).to_owned())
        }
    };
    Error::Predicate { predicate: text.to_owned(), position, reason }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

fn unknown_column(field: &Column, schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let nearest = names
        .iter()
        .map(|name| (distance(name, &field.name), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / 3 + 1);
    let meant = nearest.map_or(String::new(), |(_, name)| format!(" did you mean {name:?}?"));
    let string = "; a text stands in single quotes";
    format!("no column {:?};{meant} Columns: {}{string}", field.name, names.join(", "))
}

/// Letters to change, add or drop to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Where a word stands in the text, in characters, whatever its case.
fn place_of_word(text: &str, word: &str) -> Option<usize> {
    let letters: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    let is_part = |at: Option<&char>| at.is_some_and(|c| c.is_alphanumeric() || *c == '_');
    (0..letters.len()).find(|at| {
        letters[*at..].starts_with(&word)
            && !is_part(at.checked_sub(1).and_then(|before| letters.get(before)))
            && !is_part(letters.get(at + word.len()))
    })
}

/// Takes ` at Line: L, Column: C` off a message of the parser; the place in characters from 0.
fn without_place<'a>(text: &str, message: &'a str) -> (&'a str, Option<usize>) {
    let Some((said, place)) = message.rsplit_once(" at Line: ") else {
        // It says no place where the text ended too early.
        let ended = message.contains("EOF").then(|| text.chars().count());
        return (message, ended);
    };
    let numbers = place.split_once(", Column: ").and_then(|(line, column)| {
        Some((line.parse::<usize>().ok()?, column.trim().parse::<usize>().ok()?))
    });
    let Some((line, column)) = numbers else { return (said, None) };
    let before: usize =
        text.lines().take(line.saturating_sub(1)).map(|line| line.chars().count() + 1).sum();
    (said, Some(before + column.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, StringArray};
    use arrow::datatypes::Field;

    fn batch() -> RecordBatch {
        let language: ArrayRef = Arc::new(StringArray::from(vec![Some("en"), Some("de"), None]));
        let score: ArrayRef = Arc::new(Float32Array::from(vec![0.25, 0.75, 0.5]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["one", "größer", "x"]));
        RecordBatch::try_from_iter([("language", language), ("score", score), ("text", text)])
            .unwrap()
    }

    fn holds(text: &str) -> Vec<bool> {
        let batch = batch();
        Predicate::new(text, &batch.schema()).unwrap().holds(&batch).unwrap()
    }

    fn refused(text: &str) -> String {
        let error = Predicate::new(text, &batch().schema()).err();
        error.unwrap_or_else(|| panic!("{text} was accepted")).to_string()
    }

    #[test]
    fn rows_for_which_it_holds() {
        assert_eq!(holds("language = 'en'"), [true, false, false]);
        assert_eq!(holds("score > 0.3 and text like '%x'"), [false, false, true]);
        assert_eq!(holds("character_length(text) = 6"), [false, true, false]);
        assert_eq!(holds("length(text) = 6"), [false, true, false]);
        assert_eq!(holds("text ~ '^gr' or score < 0.3"), [true, true, false]);
        assert_eq!(holds("true"), [true; 3]);
        assert_eq!(holds("language <> 'en'"), [false, true, false], "null is no");
        assert_eq!(holds("LANGUAGE in ('de', 'fr')"), [false, true, false]);
    }

    #[test]
    fn it_reads_the_columns_it_names_and_no_other() {
        let whole = batch();
        let predicate = Predicate::new("text = 'x' and score = 0.5", &whole.schema()).unwrap();
        assert_eq!(predicate.columns(), ["score", "text"]);
        assert_eq!(predicate.holds(&whole).unwrap(), [false, false, true]);
        let turned = whole.project(&[2, 1]).unwrap();
        assert_eq!(predicate.holds(&turned).unwrap(), [false, false, true]);
        let missing = whole.project(&[2]).unwrap();
        assert!(predicate.holds(&missing).unwrap_err().to_string().contains("score"));
    }

    #[test]
    fn errors_say_where_and_what_there_is() {
        let unknown = refused("score > 1 and langage = 'en'");
        for part in ["character 15", "langage", "did you mean \"language\"", "score, text"] {
            assert!(unknown.contains(part), "{unknown}");
        }
        let broken = refused("score > and 1");
        assert!(broken.contains("character ") && broken.contains("^"), "{broken}");
        let short = refused("score >");
        assert!(short.contains("character 8"), "{short}");
        let unquoted = refused("language = en");
        assert!(unquoted.contains("single quotes"), "{unquoted}");
        assert!(refused("score + 1").contains("true or false"));
        assert!(refused("score > 1; drop table x").contains("character 10"));
        assert!(refused("no_such_function(score)").contains("no_such_function"));
    }

    #[test]
    fn what_looks_further_than_a_row_is_refused() {
        assert!(refused("score > random()").contains("random()"));
        assert!(refused("score > max(score)").contains("max"));
        assert!(refused("row_number() over () > 1").contains("window"));
        assert!(refused("language = 'en' extra").contains("extra"));
        assert!(refused("score in (select 1)").contains("subquery"));
    }

    #[test]
    fn a_column_whose_name_needs_quotes() {
        let value: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
        let schema = Schema::new(vec![Field::new("Link Share", DataType::Float32, false)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![value]).unwrap();
        let predicate = Predicate::new("\"Link Share\" = 1", &batch.schema()).unwrap();
        assert_eq!(predicate.holds(&batch).unwrap(), [true]);
    }
}
