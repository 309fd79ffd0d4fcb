//! The columns of others that have no place among ours, as one JSON object a row.
//!
//! They pass through a run in the column `extra`: text, so that files of different origin have one
//! schema, and DuckDB (`extra->>'dump'`) or any JSON reader gets at them. What JSON has no form for
//! is written as text: dates as Arrow prints them, bytes in hexadecimal. Not here: ours.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use serde_json::{Map, Number, Value};

/// Lists and structs in each other deeper than this are left out.
const MAX_DEPTH: usize = 16;

/// One column by row.
enum Column {
    Bool(ArrayRef),
    Integer(ArrayRef),
    Unsigned(ArrayRef),
    Float(ArrayRef),
    Text(ArrayRef),
    Bytes(ArrayRef),
    List(ArrayRef, Box<Column>),
    Struct(ArrayRef, Vec<(String, Column)>),
    Map(ArrayRef, Box<Column>, Box<Column>),
    /// Of a type that has no form as text either.
    Unknown,
}

impl Column {
    fn of(array: &ArrayRef, depth: usize) -> Column {
        use DataType::{
            Binary, BinaryView, Boolean, FixedSizeBinary, FixedSizeList, Int8, Int16, Int32, Int64,
            LargeBinary, LargeList, List, UInt8, UInt16, UInt32, UInt64,
        };
        let to = |wanted: &DataType| cast(array, wanted).ok();
        if depth > MAX_DEPTH {
            return Column::Unknown;
        }
        let column = match array.data_type() {
            Boolean => Some(Column::Bool(array.clone())),
            Int8 | Int16 | Int32 | Int64 => to(&Int64).map(Column::Integer),
            UInt8 | UInt16 | UInt32 | UInt64 => to(&UInt64).map(Column::Unsigned),
            kind if kind.is_floating() => to(&DataType::Float64).map(Column::Float),
            Binary | BinaryView | LargeBinary | FixedSizeBinary(_) => {
                to(&Binary).map(Column::Bytes)
            }
            List(field) | LargeList(field) | FixedSizeList(field, _) => to(&List(field.clone()))
                .map(|lists| {
                    let inside = Column::of(lists.as_list::<i32>().values(), depth + 1);
                    Column::List(lists, Box::new(inside))
                }),
            DataType::Struct(_) => Some(Column::record(array.as_struct(), array, depth)),
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = Box::new(Column::of(map.keys(), depth + 1));
                let values = Box::new(Column::of(map.values(), depth + 1));
                Some(Column::Map(array.clone(), keys, values))
            }
            _ => to(&DataType::Utf8).map(Column::Text),
        };
        column.unwrap_or(Column::Unknown)
    }

    fn record(fields: &StructArray, array: &ArrayRef, depth: usize) -> Column {
        let columns = fields.columns().iter().zip(fields.column_names());
        let columns = columns.map(|(c, name)| (name.to_owned(), Column::of(c, depth + 1)));
        Column::Struct(array.clone(), columns.collect())
    }

    fn value(&self, row: usize) -> Value {
        match self {
            Column::Bool(a) if a.is_valid(row) => a.as_boolean().value(row).into(),
            Column::Integer(a) if a.is_valid(row) => {
                a.as_primitive::<Int64Type>().value(row).into()
            }
            Column::Unsigned(a) if a.is_valid(row) => {
                a.as_primitive::<UInt64Type>().value(row).into()
            }
            Column::Float(a) if a.is_valid(row) => {
                float(a.as_primitive::<Float64Type>().value(row))
            }
            Column::Text(a) if a.is_valid(row) => a.as_string::<i32>().value(row).into(),
            Column::Bytes(a) if a.is_valid(row) => {
                let bytes = a.as_binary::<i32>().value(row);
                bytes.iter().map(|b| format!("{b:02x}")).collect::<String>().into()
            }
            Column::List(a, inside) if a.is_valid(row) => {
                let offsets = a.as_list::<i32>().value_offsets();
                (offsets[row]..offsets[row + 1]).map(|n| inside.value(n as usize)).collect()
            }
            Column::Struct(a, fields) if a.is_valid(row) => {
                fields.iter().map(|(name, c)| (name.clone(), c.value(row))).collect()
            }
            Column::Map(a, keys, values) if a.is_valid(row) => {
                let offsets = a.as_map().value_offsets();
                let entry = |n: i32| (named(&keys.value(n as usize)), values.value(n as usize));
                (offsets[row]..offsets[row + 1]).map(entry).collect()
            }
            _ => Value::Null,
        }
    }
}

/// A number that JSON has, or its name.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| value.to_string().into(), Value::Number)
}

fn named(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

/// The columns of a batch that are not `known`, in their order.
pub(crate) struct Extra(Vec<(String, Column)>);

impl Extra {
    pub(crate) fn of(batch: &RecordBatch, known: impl Fn(&str, &DataType) -> bool) -> Extra {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let others = columns.filter(|(field, array)| !known(field.name(), array.data_type()));
        Extra(others.map(|(field, array)| (field.name().clone(), Column::of(array, 0))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What one row holds in them, besides `first`; nulls are left out.
    pub(crate) fn row(&self, row: usize, first: Map<String, Value>) -> Map<String, Value> {
        let mut object = first;
        for (name, column) in &self.0 {
            match column.value(row) {
                Value::Null => {}
                value => drop(object.insert(name.clone(), value)),
            }
        }
        object
    }
}

/// An object as it stands in the column; nothing where it is empty.
pub fn to_extra(object: &Map<String, Value>) -> String {
    if object.is_empty() { String::new() } else { Value::from(object.clone()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BinaryArray, BooleanArray, Float32Array, Int16Array, ListArray, StringArray, UInt64Array,
    };
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn check(array: ArrayRef, expected: &[&str]) {
        let batch = RecordBatch::try_from_iter([("a", array)]).unwrap();
        let extra = Extra::of(&batch, |_, _| false);
        let found: Vec<String> =
            (0..batch.num_rows()).map(|row| to_extra(&extra.row(row, Map::new()))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_type_has_a_form() {
        check(Arc::new(Int16Array::from(vec![Some(-3), None])), &["{\"a\":-3}", ""]);
        check(Arc::new(UInt64Array::from(vec![u64::MAX])), &["{\"a\":18446744073709551615}"]);
        check(
            Arc::new(Float32Array::from(vec![0.5, f32::NAN])),
            &["{\"a\":0.5}", "{\"a\":\"NaN\"}"],
        );
        check(Arc::new(BooleanArray::from(vec![true])), &["{\"a\":true}"]);
        check(Arc::new(StringArray::from(vec!["\"é\n"])), &["{\"a\":\"\\\"é\\n\"}"]);
        check(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"])), &["{\"a\":\"00ff\"}"]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let list: ArrayRef = Arc::new(list);
        check(list.clone(), &["{\"a\":[1,null]}", "", "{\"a\":[]}"]);
        let inside = StructArray::try_from(vec![("x", list)]).unwrap();
        check(Arc::new(inside.slice(2, 1)), &["{\"a\":{\"x\":[]}}"]);
        let dates = arrow::array::Date32Array::from(vec![0]);
        check(Arc::new(dates), &["{\"a\":\"1970-01-01\"}"]);
    }
}
