//! How the columns of queries, keys and values divide into heads.

/// The heads of an attention block.
///
/// A row of `qkv` holds the queries of all heads, then the keys, then the values: `(H + 2G) * D`
/// columns. Query head `h` looks at key and value head `h / (H / G)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The number of query heads, `H`; a multiple of `key_value`.
    pub query: usize,
    /// The number of key heads, and of value heads, `G`; above 0.
    pub key_value: usize,
    /// The columns of a head, `D`.
    pub dim: usize,
}

impl Heads {
    /// The columns of a row of queries, keys and values.
    pub fn qkv_cols(self) -> usize {
        (self.query + 2 * self.key_value) * self.dim
    }
}
