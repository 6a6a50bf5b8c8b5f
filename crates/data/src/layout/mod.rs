//! Layouts: how a row holds its prompt and its completions.

mod shape;

pub use shape::Shape;
