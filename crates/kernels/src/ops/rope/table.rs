//! Inverse frequencies as the families define them.

/// How a checkpoint stretches its frequencies beyond the context it was first trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all (`default`).
    None,
    /// All frequencies divided by a factor (`linear`).
    Linear {
        /// By how much; above 0.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, a smooth step between.
    Ramp {
        /// By how much low frequencies are divided; above 0.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept;
        /// other than `low_freq_factor`.
        high_freq_factor: f64,
        /// The context, in tokens, of the first training.
        original_max_position_embeddings: f64,
    },
    /// Each frequency divided by a factor of its own (`rope_freqs` of GGUF files).
    Factors(Vec<f32>),
    /// The same, with other factors for rows of long sequences ([`LONG`]).
    ByLength {
        /// Factors in sequences of the first context.
        short: Vec<f32>,
        /// Factors in longer ones.
        long: Vec<f32>,
    },
}

/// Marks the position of a row whose sequence is longer than the first context, where frequencies
/// depend on that (`longrope`; Ding et al. 2024, arXiv:2402.13753).
pub const LONG: u32 = 1 << 31;

/// The inverse frequency of each pair of a head's columns, in radians a position.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    inverse_frequencies: Vec<f32>,
    /// Those of long sequences, where they are others.
    long: Option<Vec<f32>>,
    magnitude: f32,
}

impl Table {
    /// `1 / theta^(2 i / dim)` for each `i < dim / 2`, then scaled.
    ///
    /// Every step rounds to f32 where transformers rounds.
    ///
    /// # Panics
    ///
    /// If factors are not one for each pair.
    pub fn new(dim: usize, theta: f64, scaling: &Scaling) -> Self {
        let frequencies = |scaling: &Scaling| -> Vec<f32> {
            if let Scaling::Factors(factors) = scaling {
                assert_eq!(factors.len(), dim / 2, "a factor for each pair");
            }
            let of_pair = |pair: usize| {
                let exponent = (2 * pair) as f32 / dim as f32;
                // The power of an f32 base in f64, rounded once: what a good f32 `pow` returns.
                let power = f64::from(theta as f32).powf(f64::from(exponent)) as f32;
                scale(1.0 / power, pair, scaling)
            };
            (0..dim / 2).map(of_pair).collect()
        };
        let (inverse_frequencies, long) = match scaling {
            Scaling::ByLength { short, long } => (
                frequencies(&Scaling::Factors(short.clone())),
                Some(frequencies(&Scaling::Factors(long.clone()))),
            ),
            scaling => (frequencies(scaling), None),
        };
        Self { inverse_frequencies, long, magnitude: 1.0 }
    }

    /// The same table for turns that also stretch by a factor (`attention_factor`).
    #[must_use]
    pub fn with_magnitude(self, magnitude: f32) -> Self {
        Self { magnitude, ..self }
    }

    /// What turned columns are multiplied by, 1 in most families.
    pub fn magnitude(&self) -> f32 {
        self.magnitude
    }

    /// The inverse frequencies, one for each pair.
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }

    /// The place that a marked position stands for, and the frequencies that it turns by.
    pub(super) fn of_row(&self, position: u32) -> (u32, &[f32]) {
        let frequencies = match &self.long {
            Some(long) if position & LONG != 0 => long,
            _ => &self.inverse_frequencies,
        };
        (position & !LONG, frequencies)
    }
}

/// Scales one inverse frequency, in transformers' order of operations.
fn scale(frequency: f32, pair: usize, scaling: &Scaling) -> f32 {
    match *scaling {
        // The two lists are told apart before.
        Scaling::None | Scaling::ByLength { .. } => frequency,
        Scaling::Linear { factor } => frequency / factor as f32,
        Scaling::Factors(ref factors) => frequency / factors[pair],
        Scaling::Ramp {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let wavelength = (2.0 * std::f64::consts::PI) as f32 / frequency;
            if wavelength > (original_max_position_embeddings / low_freq_factor) as f32 {
                return frequency / factor as f32;
            }
            if wavelength < (original_max_position_embeddings / high_freq_factor) as f32 {
                return frequency;
            }
            let turns = original_max_position_embeddings as f32 / wavelength;
            let range = (high_freq_factor - low_freq_factor) as f32;
            let smooth = (turns - low_freq_factor as f32) / range;
            (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
        }
    }
}
