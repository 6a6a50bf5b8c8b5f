//! What a GGUF file as a whole is stored as, and which tensor gets which type for it.

use crate::Dtype;

/// How the tensors of a file are stored.
///
/// Plain types and those of 32 numbers are what they say; vectors stay in `f32` in all of them. The
/// K mixes give more bits to tensors that need them, by llama.cpp's rule: the head 6 bits, and in
/// some layers the values and what leads out of the feed-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileType {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// 4 bits and a scale for 32 numbers.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32 numbers.
    Q4_1,
    /// 5 bits and a scale for 32 numbers.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32 numbers.
    Q5_1,
    /// 8 bits and a scale for 32 numbers.
    Q8_0,
    /// Mostly 4 bits in K blocks.
    Q4KM,
    /// Mostly 5 bits in K blocks.
    Q5KM,
    /// 6 bits in K blocks.
    Q6K,
}

/// A matrix of a model, as the choice of its type sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its name in the file, such as `blk.3.ffn_down.weight`.
    pub name: &'a str,
    /// The length of its rows.
    pub cols: usize,
    /// How many layers the model has.
    pub layers: usize,
    /// Whether the embedding serves as the head.
    pub tied: bool,
}

impl FileType {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4KM,
        Self::Q5KM,
        Self::Q6K,
    ];

    /// Its number, `general.file_type` of the metadata.
    pub const fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::Q5_0 => 8,
            Self::Q5_1 => 9,
            Self::Q4KM => 15,
            Self::Q5KM => 17,
            Self::Q6K => 18,
            Self::Bf16 => 32,
        }
    }

    /// Its name as files and programs spell it, such as `BF16` or `Q4_K_M`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4KM => "Q4_K_M",
            Self::Q5KM => "Q5_K_M",
            other => other.usual().name(),
        }
    }

    /// The type of most matrices.
    pub const fn usual(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
            Self::Q4_0 => Dtype::Q4_0,
            Self::Q4_1 => Dtype::Q4_1,
            Self::Q5_0 => Dtype::Q5_0,
            Self::Q5_1 => Dtype::Q5_1,
            Self::Q8_0 => Dtype::Q8_0,
            Self::Q4KM => Dtype::Q4K,
            Self::Q5KM => Dtype::Q5K,
            Self::Q6K => Dtype::Q6K,
        }
    }

    /// The type of a matrix, and whether its rows are no whole blocks of the one that it should have.
    pub fn dtype(self, place: Place<'_>) -> (Dtype, bool) {
        let wanted = self.wanted(place);
        let fits = |dtype: Dtype| place.cols.is_multiple_of(dtype.block_len());
        if fits(wanted) {
            return (wanted, false);
        }
        let instead = match wanted {
            Dtype::Q4K => Dtype::Q5_0,
            Dtype::Q5K => Dtype::Q5_1,
            Dtype::Q6K => Dtype::Q8_0,
            _ => Dtype::F16,
        };
        (if fits(instead) { instead } else { Dtype::F16 }, true)
    }

    /// The type of a matrix whose rows are of any length.
    fn wanted(self, place: Place<'_>) -> Dtype {
        let usual = self.usual();
        let is_head =
            place.name == "output.weight" || place.tied && place.name == "token_embd.weight";
        if is_head {
            return match usual {
                Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::Q8_0 => usual,
                _ => Dtype::Q6K,
            };
        }
        let is_mixed = matches!(self, Self::Q4KM | Self::Q5KM);
        let needs_more = ["attn_v.weight", "ffn_down.weight"];
        let layer = || place.name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
        if is_mixed
            && needs_more.iter().any(|end| place.name.ends_with(end))
            && layer().is_some_and(|layer| has_more_bits(layer, place.layers))
        {
            return Dtype::Q6K;
        }
        usual
    }
}

/// Whether a layer is among the first or last eighth, or every third one between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || 7 * layers / 8 <= layer || (layer - eighth) % 3 == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, cols: usize, tied: bool) -> Place<'_> {
        Place { name, cols, layers: 32, tied }
    }

    #[test]
    fn mixes_give_more_bits_where_llama_cpp_does() {
        let of = |name: &str| FileType::Q4KM.dtype(place(name, 4096, false));
        assert_eq!(of("token_embd.weight"), (Dtype::Q4K, false));
        assert_eq!(of("output.weight"), (Dtype::Q6K, false));
        assert_eq!(of("blk.9.attn_q.weight"), (Dtype::Q4K, false));
        let more: Vec<usize> = (0..32)
            .filter(|layer| of(&format!("blk.{layer}.ffn_down.weight")).0 == Dtype::Q6K)
            .collect();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        let values = FileType::Q5KM.dtype(place("blk.6.attn_v.weight", 4096, false));
        assert_eq!(values, (Dtype::Q6K, false));
        let tied = FileType::Q4_0.dtype(place("token_embd.weight", 4096, true));
        assert_eq!(tied, (Dtype::Q6K, false));
    }

    #[test]
    fn rows_that_are_no_whole_blocks_get_another_type() {
        // The rows of SmolLM2-135M.
        let of = |file: FileType, name| file.dtype(place(name, 576, true));
        assert_eq!(of(FileType::Q4KM, "blk.8.attn_q.weight"), (Dtype::Q5_0, true));
        assert_eq!(of(FileType::Q5KM, "blk.8.attn_q.weight"), (Dtype::Q5_1, true));
        assert_eq!(of(FileType::Q6K, "blk.8.attn_q.weight"), (Dtype::Q8_0, true));
        assert_eq!(of(FileType::Q4KM, "token_embd.weight"), (Dtype::Q8_0, true));
        assert_eq!(of(FileType::Q8_0, "token_embd.weight"), (Dtype::Q8_0, false));
        let odd = |file: FileType| file.dtype(place("blk.8.attn_q.weight", 24, true));
        assert_eq!(odd(FileType::Q4KM), (Dtype::F16, true));
        assert_eq!(odd(FileType::Q8_0), (Dtype::F16, true));
        assert_eq!(odd(FileType::Bf16), (Dtype::Bf16, false));
    }
}
