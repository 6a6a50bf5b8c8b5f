//! Prompts and branches as runs of rows, each with the rows it sees before its own.

use std::ops::Range;

use crate::Branches;
use crate::branches::Run;

/// A prompt or a branch: consecutive rows, each of which sees `before` and its own run up to itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its own rows.
    pub(super) rows: Range<usize>,
    /// The rows of its tree's prompt; none where it is the prompt itself.
    pub(super) before: Range<usize>,
    /// Where its own rows begin among packed keys; always even, so that pairs of keys never
    /// straddle two segments.
    pub(super) slot: usize,
    /// Where the rows of `before` begin among packed keys.
    pub(super) before_slot: usize,
}

/// The segments of all trees in the order of their rows, empty ones too.
pub(super) fn of_branches(branches: &Branches) -> Vec<Segment> {
    let (mut slot, mut before_slot) = (0, 0);
    let segment = |run: Run| {
        if run.is_prompt {
            before_slot = slot;
        }
        let segment = Segment { slot, before_slot, before: run.before, rows: run.rows };
        slot += segment.rows.len().next_multiple_of(2);
        segment
    };
    branches.runs().map(segment).collect()
}

/// The number of slots of all segments.
pub(super) fn slots(segments: &[Segment]) -> usize {
    segments.last().map_or(0, |last| last.slot + last.rows.len().next_multiple_of(2))
}
