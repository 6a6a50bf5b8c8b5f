//! The values of a GGUF file's metadata.

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned 8-bit number.
    U8(u8),
    /// A signed 8-bit number.
    I8(i8),
    /// An unsigned 16-bit number.
    U16(u16),
    /// A signed 16-bit number.
    I16(i16),
    /// An unsigned 32-bit number.
    U32(u32),
    /// A signed 32-bit number.
    I32(i32),
    /// An unsigned 64-bit number.
    U64(u64),
    /// A signed 64-bit number.
    I64(i64),
    /// A single precision number.
    F32(f32),
    /// A double precision number.
    F64(f64),
    /// A truth value; any byte but 0 is true.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Array),
}

/// Values of one type, stored side by side.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Unsigned 8-bit numbers.
    U8(Vec<u8>),
    /// Signed 8-bit numbers.
    I8(Vec<i8>),
    /// Unsigned 16-bit numbers.
    U16(Vec<u16>),
    /// Signed 16-bit numbers.
    I16(Vec<i16>),
    /// Unsigned 32-bit numbers.
    U32(Vec<u32>),
    /// Signed 32-bit numbers.
    I32(Vec<i32>),
    /// Unsigned 64-bit numbers.
    U64(Vec<u64>),
    /// Signed 64-bit numbers.
    I64(Vec<i64>),
    /// Single precision numbers.
    F32(Vec<f32>),
    /// Double precision numbers.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    String(Vec<String>),
    /// Arrays, each of a type of its own.
    Array(Vec<Array>),
}

impl Value {
    /// What kind of value it is, with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::U8(_) => "an unsigned 8-bit number",
            Self::I8(_) => "a signed 8-bit number",
            Self::U16(_) => "an unsigned 16-bit number",
            Self::I16(_) => "a signed 16-bit number",
            Self::U32(_) => "an unsigned 32-bit number",
            Self::I32(_) => "a signed 32-bit number",
            Self::U64(_) => "an unsigned 64-bit number",
            Self::I64(_) => "a signed 64-bit number",
            Self::F32(_) | Self::F64(_) => "a floating-point number",
            Self::Bool(_) => "a truth value",
            Self::String(_) => "a text",
            Self::Array(Array::String(_)) => "an array of texts",
            Self::Array(Array::Array(_)) => "an array of arrays",
            Self::Array(Array::Bool(_)) => "an array of truth values",
            Self::Array(Array::F32(_) | Array::F64(_)) => "an array of floating-point numbers",
            Self::Array(_) => "an array of whole numbers",
        }
    }

    /// A whole number of whatever width; `None` for other kinds.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }

    /// The value as JSON, for reports; numbers that JSON cannot hold become null.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::U8(value) => (*value).into(),
            Self::I8(value) => (*value).into(),
            Self::U16(value) => (*value).into(),
            Self::I16(value) => (*value).into(),
            Self::U32(value) => (*value).into(),
            Self::I32(value) => (*value).into(),
            Self::U64(value) => (*value).into(),
            Self::I64(value) => (*value).into(),
            Self::F32(value) => (*value).into(),
            Self::F64(value) => (*value).into(),
            Self::Bool(value) => (*value).into(),
            Self::String(value) => value.as_str().into(),
            Self::Array(array) => array.to_json(),
        }
    }
}

impl Array {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
            Self::Array(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whole numbers of whatever width; `None` for other kinds.
    pub fn as_integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            Self::U8(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I8(values) => values.iter().map(|&value| value.into()).collect(),
            Self::U16(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I16(values) => values.iter().map(|&value| value.into()).collect(),
            Self::U32(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I32(values) => values.iter().map(|&value| value.into()).collect(),
            Self::I64(values) => values.clone(),
            Self::U64(values) => {
                return values.iter().map(|&value| value.try_into().ok()).collect();
            }
            _ => return None,
        })
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::U8(values) => values.clone().into(),
            Self::I8(values) => values.clone().into(),
            Self::U16(values) => values.clone().into(),
            Self::I16(values) => values.clone().into(),
            Self::U32(values) => values.clone().into(),
            Self::I32(values) => values.clone().into(),
            Self::U64(values) => values.clone().into(),
            Self::I64(values) => values.clone().into(),
            Self::F32(values) => values.clone().into(),
            Self::F64(values) => values.clone().into(),
            Self::Bool(values) => values.clone().into(),
            Self::String(values) => values.clone().into(),
            Self::Array(values) => values.iter().map(Self::to_json).collect(),
        }
    }
}
