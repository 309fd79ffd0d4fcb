//! What can go wrong below the trait [`Device`](crate::Device), with its operands: the op, the
//! operand by its field name, what was found, what was expected.

use crate::dtype::DType;

/// Errors of views, ops and devices.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The device has no room for a buffer.
    #[error("device {device}: {bytes} bytes could not be allocated ({reason})")]
    Allocate {
        /// Name of the device.
        device: String,
        /// Bytes wanted.
        bytes: usize,
        /// What the system said.
        reason: String,
    },
    /// A view does not lie inside its buffer or its parent view.
    #[error("view: {what} is {found}, expected {expected}")]
    View {
        /// The quantity that is wrong.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// An operand has the wrong number of rows or columns, or a scalar does not fit them.
    #[error("{op}: `{operand}` is {found}, expected {expected}")]
    Shape {
        /// Name of the op.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
        /// What was given.
        found: String,
        /// What the other operands demand.
        expected: String,
    },
    /// An operand has a type that the op has no meaning for.
    #[error("{op}: `{operand}` has type {found}, expected {expected}")]
    Type {
        /// Name of the op.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
        /// Type of the view.
        found: DType,
        /// Types allowed.
        expected: &'static str,
    },
    /// Two operands share memory, and the op writes one of them.
    #[error("{op}: `{written}` is written and overlaps `{other}`; give them separate memory")]
    Alias {
        /// Name of the op.
        op: &'static str,
        /// The operand that is written.
        written: &'static str,
        /// The operand that it overlaps.
        other: &'static str,
    },
    /// An op that has a meaning, but not on this device in this type.
    #[error("{op}: device {device} has no kernel for `{operand}` in {found} (it has {expected})")]
    Unsupported {
        /// Name of the device.
        device: String,
        /// Name of the op.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
        /// Type of the view.
        found: DType,
        /// Types the device has kernels for.
        expected: &'static str,
    },
    /// An operand lies in the memory of another device.
    #[error("{op}: `{operand}` does not lie in the memory of device {device}")]
    Foreign {
        /// Name of the device.
        device: String,
        /// Name of the op, or of the transfer.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
    },
    /// An operand that is written lies in memory that is only read, such as a mapped file.
    #[error("{op}: `{operand}` is only read (a mapped file); copy it to memory to change it")]
    ReadOnly {
        /// Name of the op, or of the transfer.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
    },
    /// A number read from memory (a token id, a position, a key row) is out of range.
    #[error("{op}: `{operand}` row {row} is {found}, expected less than {limit}")]
    Index {
        /// Name of the op.
        op: &'static str,
        /// Field of the op.
        operand: &'static str,
        /// Row of the offending element.
        row: usize,
        /// Its value.
        found: u64,
        /// First value that is too large.
        limit: u64,
    },
    /// A transfer's host side has the wrong length.
    #[error("{op}: {found} host elements or bytes were given, the view has {expected}")]
    Transfer {
        /// `read` or `write`.
        op: &'static str,
        /// Length given.
        found: usize,
        /// Length of the view, in the same unit.
        expected: usize,
    },
}
