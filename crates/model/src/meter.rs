//! Where the time of passes goes, and how much arithmetic was asked for in it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// What a pass consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Rows of the table of tokens.
    Embedding,
    /// Norms of the stream, of heads, and of what blocks add.
    Norm,
    /// Products that lead into attention or a scan.
    Qkv,
    /// Queries and keys turned to their positions.
    Rope,
    /// Attention from queries, keys and values to mixed values.
    Attention,
    /// The same by a state that is carried along.
    Scan,
    /// Products that lead out of it.
    Output,
    /// Products that lead into the feed-forward layer.
    GateUp,
    /// What stands between its products.
    Activation,
    /// Products that lead out of it.
    Down,
    /// Sums of the stream and what blocks add.
    Residual,
    /// Rows picked out to be scored.
    Rows,
    /// From the last hidden rows to log-probabilities.
    Head,
}

impl Part {
    /// All parts, in the order of a pass.
    pub const ALL: [Self; 13] = [
        Self::Embedding,
        Self::Norm,
        Self::Qkv,
        Self::Rope,
        Self::Attention,
        Self::Scan,
        Self::Output,
        Self::GateUp,
        Self::Activation,
        Self::Down,
        Self::Residual,
        Self::Rows,
        Self::Head,
    ];

    /// A short lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norm => "norm",
            Self::Qkv => "qkv",
            Self::Rope => "rope",
            Self::Attention => "attention",
            Self::Scan => "scan",
            Self::Output => "output",
            Self::GateUp => "gate_up",
            Self::Activation => "activation",
            Self::Down => "down",
            Self::Residual => "residual",
            Self::Rows => "rows",
            Self::Head => "head",
        }
    }
}

/// The direction of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// From tokens to scores.
    Forward,
    /// What backward computes a second time because it was not kept.
    Again,
    /// From scores to gradients.
    Backward,
}

impl Pass {
    /// All, in the order in which they begin.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Again, Self::Backward];

    /// A short lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Again => "again",
            Self::Backward => "backward",
        }
    }
}

/// What one part of one pass took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spent {
    /// The direction.
    pub pass: Pass,
    /// The part.
    pub part: Part,
    /// Seconds on the clock.
    pub seconds: f64,
    /// Floating-point operations of products, a multiplication and an addition counted as two: what
    /// the exact computation needs, each causally visible pair of rows once. 0 for other parts.
    pub flops: u64,
}

/// Sums of what passes take, always kept: a part is a whole operation over all rows of a micro-batch,
/// so its two readings of the clock are few.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    cells: [[Cell; Part::ALL.len()]; Pass::ALL.len()],
}

#[derive(Debug, Default)]
struct Cell {
    nanoseconds: AtomicU64,
    flops: AtomicU64,
}

impl Meter {
    /// Runs a part, which needs `flops` operations.
    pub(crate) fn time<T>(
        &self,
        (pass, part): (Pass, Part),
        flops: u64,
        run: impl FnOnce() -> T,
    ) -> T {
        let started = Instant::now();
        let value = run();
        let cell = &self.cells[pass as usize][part as usize];
        // A part takes far less than the 500 years that 64 bits hold.
        let nanoseconds = started.elapsed().as_nanos() as u64;
        cell.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        cell.flops.fetch_add(flops, Ordering::Relaxed);
        value
    }

    /// The sums since the last call; parts that took no time are left out.
    pub(crate) fn take(&self) -> Vec<Spent> {
        let cells = Pass::ALL.iter().flat_map(|pass| Part::ALL.map(|part| (*pass, part)));
        cells
            .filter_map(|(pass, part)| {
                let cell = &self.cells[pass as usize][part as usize];
                let seconds = cell.nanoseconds.swap(0, Ordering::Relaxed) as f64 / 1e9;
                let flops = cell.flops.swap(0, Ordering::Relaxed);
                (0.0 < seconds).then_some(Spent { pass, part, seconds, flops })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_apart_and_handed_out_once() {
        let meter = Meter::default();
        let nap = || std::thread::sleep(std::time::Duration::from_millis(2));
        meter.time((Pass::Forward, Part::Head), 5, nap);
        meter.time((Pass::Backward, Part::Qkv), 7, nap);
        meter.time((Pass::Forward, Part::Head), 6, nap);
        let spent = meter.take();
        let told: Vec<_> = spent.iter().map(|one| (one.pass, one.part, one.flops)).collect();
        assert_eq!(told, [(Pass::Forward, Part::Head, 11), (Pass::Backward, Part::Qkv, 7)]);
        assert!(0.004 <= spent[0].seconds && 0.002 <= spent[1].seconds);
        assert_eq!(meter.take(), []);
    }

    /// The cells are found by a part's place in the list.
    #[test]
    fn lists_are_in_the_order_of_their_kinds() {
        assert!(Part::ALL.iter().enumerate().all(|(index, part)| *part as usize == index));
        assert!(Pass::ALL.iter().enumerate().all(|(index, pass)| *pass as usize == index));
    }
}
