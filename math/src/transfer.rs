//! Convenience on every device: dense allocation, typed copies, ops on the main queue. Nothing
//! here that [`Device`] cannot do.

use half::bf16;

use crate::device::{Device, Queue};
use crate::dtype::{DType, to_bf16};
use crate::error::Error;
use crate::op::Op;
use crate::view::View;

impl dyn Device + '_ {
    /// Runs `op` on [`Queue::MAIN`].
    ///
    /// # Errors
    /// As [`Device::run`].
    pub fn execute(&self, op: impl Into<Op>) -> Result<(), Error> {
        self.run(Queue::MAIN, &op.into())
    }

    /// A dense view on memory of its own, all zero.
    ///
    /// # Errors
    /// As [`Device::allocate`]; also where the size overflows.
    pub fn matrix(&self, dtype: DType, rows: usize, cols: usize) -> Result<View, Error> {
        let bytes = rows.checked_mul(cols).and_then(|n| n.checked_mul(dtype.size()));
        let bytes = bytes.ok_or_else(|| Error::Allocate {
            device: self.name().to_string(),
            bytes: usize::MAX,
            reason: format!("{rows} x {cols} {dtype} is more than an address can hold"),
        })?;
        View::dense(self.allocate(bytes)?, dtype, 0, rows, cols)
    }

    /// Writes numbers, row by row, rounded to the view's type, on the main queue.
    ///
    /// # Errors
    /// [`Error::Transfer`] if `values` has another length than the view; [`Error::Type`] for
    /// integers.
    pub fn write_floats<T: Copy + Into<f64>>(
        &self,
        view: &View,
        values: &[T],
    ) -> Result<(), Error> {
        count("write", view, values.len())?;
        let mut bytes = Vec::with_capacity(view.bytes());
        for &value in values {
            let value: f64 = value.into();
            match view.dtype() {
                DType::F64 => bytes.extend_from_slice(&value.to_le_bytes()),
                DType::F32 => bytes.extend_from_slice(&(value as f32).to_le_bytes()),
                DType::BF16 => bytes.extend_from_slice(&to_bf16(value).to_le_bytes()),
                DType::U32 => return wrong_type("write", view, "f64, f32 or bf16"),
            }
        }
        self.write(Queue::MAIN, view, &bytes)
    }

    /// Writes unsigned integers, row by row, on the main queue.
    ///
    /// # Errors
    /// As `write_floats`; [`Error::Type`] for floats.
    pub fn write_u32(&self, view: &View, values: &[u32]) -> Result<(), Error> {
        count("write", view, values.len())?;
        if view.dtype() != DType::U32 {
            return wrong_type("write", view, "u32");
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.write(Queue::MAIN, view, &bytes)
    }

    /// Reads all elements as f64, row by row, from the main queue.
    ///
    /// # Errors
    /// [`Error::Type`] for integers.
    pub fn read_f64(&self, view: &View) -> Result<Vec<f64>, Error> {
        let bytes = self.bytes_of(view)?;
        match view.dtype() {
            DType::F64 => Ok(each(&bytes, f64::from_le_bytes)),
            DType::F32 => Ok(each(&bytes, |b| f32::from_le_bytes(b) as f64)),
            DType::BF16 => Ok(each(&bytes, |b| bf16::from_le_bytes(b).to_f64())),
            DType::U32 => wrong_type("read", view, "f64, f32 or bf16"),
        }
    }

    /// Reads all elements as f32, row by row, from the main queue.
    ///
    /// # Errors
    /// [`Error::Type`] for integers.
    pub fn read_f32(&self, view: &View) -> Result<Vec<f32>, Error> {
        if view.dtype() == DType::F32 {
            return Ok(each(&self.bytes_of(view)?, f32::from_le_bytes));
        }
        Ok(self.read_f64(view)?.into_iter().map(|v| v as f32).collect())
    }

    /// Reads unsigned integers, row by row, from the main queue.
    ///
    /// # Errors
    /// [`Error::Type`] for floats.
    pub fn read_u32(&self, view: &View) -> Result<Vec<u32>, Error> {
        if view.dtype() != DType::U32 {
            return wrong_type("read", view, "u32");
        }
        Ok(each(&self.bytes_of(view)?, u32::from_le_bytes))
    }

    fn bytes_of(&self, view: &View) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; view.bytes()];
        self.read(Queue::MAIN, view, &mut bytes)?;
        Ok(bytes)
    }
}

fn count(op: &'static str, view: &View, found: usize) -> Result<(), Error> {
    if found == view.len() {
        return Ok(());
    }
    Err(Error::Transfer { op, found, expected: view.len() })
}

fn wrong_type<T>(op: &'static str, view: &View, expected: &'static str) -> Result<T, Error> {
    Err(Error::Type { op, operand: "view", found: view.dtype(), expected })
}

fn each<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
}
