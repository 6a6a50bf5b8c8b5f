//! What can be wrong with a file of weights, and how to mend it.

mod hint;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::{Dtype, Signature};

/// The result of everything fallible here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is wrong with a file, or with what was asked of it.
///
/// A reader wraps what it finds in [`Error::Read`], so that the file is named first and the reason
/// follows as the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read; the source says why.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A file cannot be written; the source says why.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: Box<Error>,
    },
    /// The operating system refused; the message names the path.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A path that should be a file is something else.
    #[error("it is not a plain file")]
    NotAFile,
    /// A folder has none of the files that were looked for.
    #[error("there is none of {} in it", list(wanted))]
    NoSuchFile {
        /// The file names that were looked for, in that order.
        wanted: Vec<String>,
    },
    /// A folder has only weights in Python's pickle format.
    #[error("`{file}` is a pickle, which can run code when it is opened")]
    Pickle {
        /// The file's name.
        file: String,
    },
    /// The first bytes are not those of the format.
    #[error("it is not a {wanted} file but {found}")]
    WrongFormat {
        /// The format that was expected.
        wanted: &'static str,
        /// What the first bytes look like.
        found: Signature,
    },
    /// The file ends before something that it should hold.
    #[error("the file ends at byte {size}, before the end of {what} at byte {end}")]
    Truncated {
        /// What is cut off.
        what: String,
        /// The first byte after it; the largest number there is where the sum overflows.
        end: u64,
        /// The file's size.
        size: u64,
    },
    /// A safetensors header is longer than the format allows.
    #[error(
        "the header is said to have {length} bytes, more than the {limit} that the format allows"
    )]
    HeaderLength {
        /// What the file says.
        length: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// A file of text is longer than any real one.
    #[error("{what} has {length} bytes, more than the {limit} that any real one has")]
    TooLong {
        /// What the text is.
        what: &'static str,
        /// Its length.
        length: u64,
        /// The most that is read.
        limit: u64,
    },
    /// Text that should be JSON of a known form is not.
    #[error("{what} is not as it should be")]
    Json {
        /// What the text is.
        what: String,
        /// Where and why reading it failed.
        source: serde_json::Error,
    },
    /// A name stands twice in a file, or in two shards.
    #[error("{what} `{name}` is there twice")]
    Duplicate {
        /// What is named, such as `tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A tensor's numbers are stored in a type that cannot be read.
    #[error("tensor `{name}` is stored as {dtype}, which is not supported")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// The type as the file names it.
        dtype: String,
    },
    /// A tensor's size is beyond the address space.
    #[error("tensor `{name}` has an impossible shape, {shape:?}")]
    ShapeOverflow {
        /// The tensor.
        name: String,
        /// The shape that the file gives.
        shape: Vec<usize>,
    },
    /// A tensor's rows are no whole number of blocks.
    #[error("tensor `{name}` has rows of {cols} numbers, which {dtype} cannot store")]
    PartialBlock {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Its row length.
        cols: usize,
    },
    /// A tensor's bytes do not fit its shape.
    #[error("tensor `{name}` of {dtype} {shape:?} needs {wanted} bytes and has {found}")]
    TensorSize {
        /// The tensor.
        name: String,
        /// Its type as the file names it.
        dtype: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes that its shape asks for.
        wanted: usize,
        /// Bytes that it has.
        found: usize,
    },
    /// Two tensors share bytes.
    #[error("tensors `{name}` and `{other}` overlap at byte {at} of the data")]
    Overlap {
        /// The tensor that starts first.
        name: String,
        /// The tensor that starts inside it.
        other: String,
        /// Where the second one starts, counted from the start of the data.
        at: u64,
    },
    /// Bytes belong to no tensor, where the format allows none.
    #[error("bytes {start} to {end} of the data belong to no tensor")]
    Gap {
        /// The first such byte, counted from the start of the data.
        start: u64,
        /// The first byte after them.
        end: u64,
    },
    /// A tensor starts where the format does not let it.
    #[error(
        "tensor `{name}` starts at byte {offset} of the data, which is no multiple of {alignment}"
    )]
    Misaligned {
        /// The tensor.
        name: String,
        /// Where it starts.
        offset: u64,
        /// What its offset must be a multiple of.
        alignment: u64,
    },
    /// There is no tensor of this name.
    #[error("there is no tensor `{name}`")]
    MissingTensor {
        /// The name that was asked for.
        name: String,
        /// Names that are close, best first.
        nearest: Vec<String>,
    },
    /// A tensor has another shape than it must have.
    #[error("tensor `{name}` has shape {found:?} where {wanted:?} is needed")]
    ShapeMismatch {
        /// The tensor.
        name: String,
        /// The shape that is needed.
        wanted: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// A tensor is stored in another type than it must be.
    #[error("tensor `{name}` is stored as {found} where {} is needed", either(wanted))]
    WrongDtype {
        /// The tensor.
        name: String,
        /// The types that would do.
        wanted: Vec<Dtype>,
        /// The type that it has.
        found: Dtype,
    },
    /// A row was asked for that is not there.
    #[error("tensor `{name}` has {rows} rows and so no row {row}, counted from 0")]
    RowOutOfRange {
        /// The tensor.
        name: String,
        /// The row.
        row: usize,
        /// How many there are.
        rows: usize,
    },
    /// The space for a row has another length than the row.
    #[error("tensor `{name}` has rows of {wanted} numbers, not of {found}")]
    RowLength {
        /// The tensor.
        name: String,
        /// The length of its rows.
        wanted: usize,
        /// The length of the space given.
        found: usize,
    },
    /// An index names a shard that is no plain file name.
    #[error("the index names `{shard}` as a shard, which is no file beside it")]
    ShardPath {
        /// The name that the index gives.
        shard: String,
    },
    /// A shard that the index names is not there.
    #[error("shard `{shard}` is missing, which holds {tensor_count} tensors")]
    MissingShard {
        /// The file's name.
        shard: String,
        /// How many tensors the index expects in it.
        tensor_count: usize,
    },
    /// A shard lacks a tensor that the index expects in it.
    #[error("shard `{shard}` has no tensor `{name}`, though the index says so")]
    NotInShard {
        /// The tensor.
        name: String,
        /// The file's name.
        shard: String,
    },
    /// A GGUF file of another version.
    #[error("GGUF version {version} is not supported")]
    GgufVersion {
        /// The version that the file gives.
        version: u32,
    },
    /// A count that the rest of the file cannot hold.
    #[error("{count} {what} are announced, but only {left} bytes are left")]
    Count {
        /// What is counted.
        what: String,
        /// How many there should be.
        count: u64,
        /// Bytes from there to the end of the file.
        left: u64,
    },
    /// Arrays inside arrays, deeper than any real file has them.
    #[error("the value of `{key}` is nested deeper than {limit} arrays")]
    Depth {
        /// The metadata key.
        key: String,
        /// The limit.
        limit: usize,
    },
    /// A metadata value of a type that does not exist.
    #[error("the value of `{key}` has type {id}, which does not exist")]
    ValueType {
        /// The metadata key.
        key: String,
        /// The type's number.
        id: u32,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// What the text is.
        what: String,
    },
    /// An alignment that is no power of two.
    #[error("`general.alignment` is {found}, which is no power of two")]
    Alignment {
        /// What the file gives.
        found: u64,
    },
    /// A tensor with more dimensions than the format has.
    #[error("tensor `{name}` has {count} dimensions, more than the {limit} that the format allows")]
    Dimensions {
        /// The tensor.
        name: String,
        /// How many it has.
        count: u32,
        /// The most that is allowed.
        limit: u32,
    },
    /// There is no metadata value of this name.
    #[error("there is no metadata value `{key}`")]
    MissingKey {
        /// The key that was asked for.
        key: String,
        /// Keys that are close, best first.
        nearest: Vec<String>,
    },
    /// A metadata value is of another kind than it must be.
    #[error("metadata value `{key}` is {found}, not {wanted}")]
    KeyType {
        /// The key.
        key: String,
        /// What is needed, with its article.
        wanted: &'static str,
        /// What is there, with its article.
        found: String,
    },
    /// A table of the tokenizer does not fit the others.
    #[error("`{table}` has {found} entries for {tokens} tokens")]
    TokenizerTable {
        /// The metadata key of the table.
        table: &'static str,
        /// Its length.
        found: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A special token is outside the vocabulary.
    #[error("`{key}` is {id}, but there are {tokens} tokens")]
    SpecialToken {
        /// The metadata key.
        key: String,
        /// The id that it gives.
        id: u32,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A merge of the tokenizer is no pair.
    #[error("merge {index} is `{text}`, which is not two tokens with a space between")]
    Merge {
        /// Its place, from 0.
        index: usize,
        /// Its text.
        text: String,
    },
    /// An adapter needs something that is not supported.
    #[error("the adapter has `{field}` = `{value}`, which is not supported")]
    AdapterFeature {
        /// The field of `adapter_config.json`.
        field: String,
        /// Its value, as JSON.
        value: String,
    },
    /// A number in an adapter's configuration is out of range.
    #[error("the adapter has `{field}` = `{value}`, which is not {wanted}")]
    AdapterValue {
        /// The field of `adapter_config.json`.
        field: String,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A pattern of an adapter's configuration is no regular expression that can be read.
    #[error("`{pattern}` in `{field}` is not a regular expression that is understood")]
    AdapterPattern {
        /// The field of `adapter_config.json`.
        field: &'static str,
        /// The pattern.
        pattern: String,
        /// Where and why reading it failed.
        source: Box<regex::Error>,
    },
    /// A tensor of an adapter file is neither `lora_A` nor `lora_B` of a module.
    #[error("the adapter holds `{name}`, which is no module's `lora_A` or `lora_B`")]
    AdapterTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor of an adapter is no matrix, or its numbers do not fill its shape.
    #[error("`{name}` of the adapter has shape {shape:?}, which is no matrix of its numbers")]
    AdapterMatrix {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// One half of a pair of matrices is missing.
    #[error("module `{module}` of the adapter has no `{missing}`")]
    AdapterHalf {
        /// The module's name.
        module: String,
        /// `lora_A` or `lora_B`.
        missing: &'static str,
    },
    /// A module's matrices do not have the rank that the configuration gives.
    #[error("module `{module}` of the adapter has rank {found}, the configuration says {wanted}")]
    AdapterRank {
        /// The module's name.
        module: String,
        /// The rank in the configuration.
        wanted: usize,
        /// The rank of the matrices.
        found: usize,
    },
    /// An adapter without any matrices.
    #[error("the adapter holds no tensors")]
    EmptyAdapter,
}

impl Error {
    /// Names the file that an error was found in.
    pub(crate) fn reading(self, path: impl Into<PathBuf>) -> Self {
        match self {
            Self::Read { .. } => self,
            other => Self::Read { path: path.into(), source: Box::new(other) },
        }
    }

    /// Names the file that was being written.
    pub(crate) fn writing(self, path: impl Into<PathBuf>) -> Self {
        Self::Write { path: path.into(), source: Box::new(self) }
    }
}

/// Names in backticks, with commas.
fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Types with "or" between.
fn either(dtypes: &[Dtype]) -> String {
    dtypes.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(" or ")
}
