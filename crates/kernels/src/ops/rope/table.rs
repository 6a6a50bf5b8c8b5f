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
    /// Low frequencies divided, high ones kept, a smooth step between (`llama3`).
    Llama3 {
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
}

/// The inverse frequency of each pair of a head's columns, in radians a position.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    inverse_frequencies: Vec<f32>,
}

impl Table {
    /// `1 / theta^(2 i / dim)` for each `i < dim / 2`, then scaled.
    ///
    /// Every step rounds to f32 where transformers rounds.
    ///
    /// # Panics
    ///
    /// If [`Scaling::Factors`] does not have one factor for each pair.
    pub fn new(dim: usize, theta: f64, scaling: &Scaling) -> Self {
        if let Scaling::Factors(factors) = scaling {
            assert_eq!(factors.len(), dim / 2, "a factor for each pair");
        }
        let inverse_frequencies = (0..dim / 2)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / dim as f32;
                // The power of an f32 base in f64, rounded once: what a good f32 `pow` returns.
                let power = f64::from(theta as f32).powf(f64::from(exponent)) as f32;
                scale(1.0 / power, pair, scaling)
            })
            .collect();
        Self { inverse_frequencies }
    }

    /// The inverse frequencies, one for each pair.
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }
}

/// Scales one inverse frequency, in transformers' order of operations.
fn scale(frequency: f32, pair: usize, scaling: &Scaling) -> f32 {
    match *scaling {
        Scaling::None => frequency,
        Scaling::Linear { factor } => frequency / factor as f32,
        Scaling::Factors(ref factors) => frequency / factors[pair],
        Scaling::Llama3 {
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
