//! Metadata by type, with messages that name the key.

use super::{Array, Gguf, Value};
use crate::{Error, Result, nearest::nearest};

/// A Rust type that a metadata value can be read as.
pub trait FromValue<'a>: Sized {
    /// What is needed, with its article, for messages.
    const WANTED: &'static str;

    /// Reads the value; `None` where it is of another kind or out of range.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl FromValue<'_> for u32 {
    const WANTED: &'static str = "a whole number from 0 to 4294967295";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl FromValue<'_> for u64 {
    const WANTED: &'static str = "a whole number from 0";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl FromValue<'_> for usize {
    const WANTED: &'static str = "a whole number from 0";

    fn from_value(value: &Value) -> Option<Self> {
        value.as_integer()?.try_into().ok()
    }
}

impl FromValue<'_> for f32 {
    const WANTED: &'static str = "a floating-point number";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::F32(value) => Some(value),
            Value::F64(value) => Some(value as Self),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const WANTED: &'static str = "a truth value";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const WANTED: &'static str = "a text";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(value) => Some(value),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [String] {
    const WANTED: &'static str = "an array of texts";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::String(values)) => Some(values),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a [f32] {
    const WANTED: &'static str = "an array of floating-point numbers";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::F32(values)) => Some(values),
            _ => None,
        }
    }
}

impl FromValue<'_> for Vec<i64> {
    const WANTED: &'static str = "an array of whole numbers";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Array(values) => values.as_integers(),
            _ => None,
        }
    }
}

impl Gguf {
    /// The metadata value `key` as any type that it can be read as.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] with the file, around [`Error::MissingKey`] with the nearest keys, or
    /// [`Error::KeyType`].
    pub fn get<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.find_value(key)?.ok_or_else(|| {
            let keys = self.metadata().keys().map(String::as_str);
            let nearest = nearest(key, keys);
            Error::MissingKey { key: key.to_owned(), nearest }.reading(self.path())
        })
    }

    /// As [`get`](Self::get), with `None` where the key is missing.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] around [`Error::KeyType`] where the value is of another kind.
    pub fn find_value<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        let Some(value) = self.metadata().get(key) else { return Ok(None) };
        if let Some(value) = T::from_value(value) {
            return Ok(Some(value));
        }
        let found = match value.as_integer() {
            Some(number) => number.to_string(),
            None => value.kind().to_owned(),
        };
        Err(Error::KeyType { key: key.to_owned(), wanted: T::WANTED, found }.reading(self.path()))
    }

    /// A whole number of whatever width that fits.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_u32(&self, key: &str) -> Result<u32> {
        self.get(key)
    }

    /// A whole number of whatever width that fits, as a size.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_usize(&self, key: &str) -> Result<usize> {
        self.get(key)
    }

    /// A floating-point number of either width.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_f32(&self, key: &str) -> Result<f32> {
        self.get(key)
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_bool(&self, key: &str) -> Result<bool> {
        self.get(key)
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_str(&self, key: &str) -> Result<&str> {
        self.get(key)
    }
}
