//! Random numbers that are functions of (seed, purpose, index), never of order.
//!
//! A generator with hidden state gives other numbers when the work is done in another order. Here
//! each number is computed from its own coordinates, so that a shuffle, a sample or a resumed run
//! draws the same numbers however the work is split.
//!
//! The mixing function is `SplitMix64`'s finalizer (Steele, Lea and Flood 2014, "Fast splittable
//! pseudorandom number generators"), applied to a counter that walks by the golden ratio; the
//! purpose's name enters through FNV-1a. It is not for cryptography.

/// The odd integer nearest to 2^64 over the golden ratio, `SplitMix64`'s step.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A sequence of independent uniform numbers for one seed and purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of a seed and a purpose, for example `"shuffle"`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut name = 0xcbf2_9ce4_8422_2325_u64;
        for byte in purpose.bytes() {
            name = (name ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Self { key: mix(mix(seed.wrapping_add(GOLDEN_GAMMA)) ^ name) }
    }

    /// The stream of one part of the purpose, for example an epoch.
    #[must_use]
    pub fn at(self, part: u64) -> Self {
        Self { key: mix(self.key ^ mix(part.wrapping_add(GOLDEN_GAMMA))) }
    }

    /// The number at an index, uniform over all 64-bit integers.
    pub fn bits(self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN_GAMMA)))
    }

    /// The number at an index, uniform over `0..bound`, with a bias below `bound / 2^64`; 0 for an empty range.
    pub fn below(self, index: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(index)) * u128::from(bound)) >> 64) as u64
    }

    /// The number at an index, uniform over [0, 1) in steps of 2^-53.
    pub fn unit(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 * 2.0_f64.powi(-53)
    }

    /// A permutation of `0..count`, every one equally likely (Fisher and Yates, from the end).
    pub fn permutation(self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = self.below(last as u64, last as u64 + 1) as usize;
            order.swap(last, other);
        }
        order
    }
}

/// `SplitMix64`'s finalizer: a bijection in which every input bit reaches every output bit.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_as_published() {
        // The first outputs of SplitMix64 from seed 1234567 in the reference C program.
        let reference = [6_457_827_717_110_365_317_u64, 3_203_168_211_198_807_973];
        for (index, expected) in reference.into_iter().enumerate() {
            let state = 1_234_567_u64.wrapping_add(GOLDEN_GAMMA.wrapping_mul(index as u64 + 1));
            assert_eq!(mix(state), expected);
        }
    }

    #[test]
    fn permutations_are_whole_and_differ_by_epoch() {
        let stream = Stream::new(42, "shuffle");
        for count in [0, 1, 2, 7, 1000] {
            let mut order = stream.at(3).permutation(count);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
        assert_ne!(stream.at(0).permutation(50), stream.at(1).permutation(50));
        assert_ne!(stream.permutation(50), Stream::new(42, "other").permutation(50));
        assert_ne!(stream.permutation(50), Stream::new(43, "shuffle").permutation(50));
    }

    #[test]
    fn numbers_never_change() {
        // Runs on disk depend on these; a change here must change the numerics version.
        let stream = Stream::new(42, "shuffle").at(0);
        assert_eq!(stream.permutation(10), FROZEN);
        assert!((0..100).all(|i| stream.below(i, 3) < 3 && (0.0..1.0).contains(&stream.unit(i))));
    }

    const FROZEN: [usize; 10] = [7, 8, 5, 9, 0, 3, 2, 4, 6, 1];

    #[test]
    fn every_permutation_of_three_is_equally_likely() {
        let stream = Stream::new(7, "test");
        let mut counts = std::collections::BTreeMap::new();
        for part in 0..6000 {
            *counts.entry(stream.at(part).permutation(3)).or_insert(0_u32) += 1;
        }
        // Binomial with mean 1000 and deviation 29: five deviations.
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|n| n.abs_diff(1000) < 145), "{counts:?}");
    }
}
