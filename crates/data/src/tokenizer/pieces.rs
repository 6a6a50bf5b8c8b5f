//! `SentencePiece`'s byte-pair encoding, exact: pairs merge by score, equal scores from the left.
//!
//! The usual translation into an ordered list of merges is not the same thing: where one piece can
//! be made from two different pairs (runs of spaces, for example), the list decides by the pair and
//! `SentencePiece` by the place. Models were trained on the latter.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// The character that stands for a space inside pieces.
pub(super) const SPACE: char = '\u{2581}';

/// A vocabulary of scored pieces.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    /// Pieces that merging may form, with their ids and scores.
    by_text: BTreeMap<Box<str>, Piece>,
    /// The ids of the 256 bytes, where the vocabulary has them.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    /// Whether text starts with a space that is not there.
    adds_space: bool,
}

/// One piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The token id.
    pub(super) id: u32,
    /// Higher merges first.
    pub(super) score: f32,
    /// Formed on the way to others, and taken apart again where it is left over.
    pub(super) unused: bool,
}

/// A pair of neighbours that could merge.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// The bytes of both when the candidate was found; it is stale once they differ.
    length: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

/// A stretch of the text in a doubly linked list; empty once merged into its left neighbour.
#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: usize,
    length: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// The text being merged.
struct Merging<'a> {
    pieces: &'a Pieces,
    text: &'a str,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Candidate>,
    /// How the unused pieces that were formed came about: their left part's length in bytes.
    parts: BTreeMap<&'a str, usize>,
}

impl Pieces {
    /// A vocabulary; `bytes` are the ids of the 256 byte tokens.
    pub(super) fn new(
        by_text: BTreeMap<Box<str>, Piece>,
        bytes: Option<Box<[u32; 256]>>,
        unknown: Option<u32>,
        adds_space: bool,
    ) -> Self {
        Self { by_text, bytes, unknown, adds_space }
    }

    /// Whether every text has tokens: bytes as a last resort.
    pub(super) fn covers_all_text(&self) -> bool {
        self.bytes.is_some()
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut spelled = String::with_capacity(text.len() + 16);
        if self.adds_space {
            spelled.push(SPACE);
        }
        spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        let mut merging = Merging::new(self, &spelled);
        merging.run();
        merging.write(ids);
    }

    fn id(&self, text: &str) -> Option<Piece> {
        self.by_text.get(text).copied()
    }

    /// Appends a stretch that is no piece: its bytes, else one unknown token for all of a run.
    fn write_unknown(&self, text: &str, after_unknown: bool, ids: &mut Vec<u32>) {
        match (&self.bytes, self.unknown) {
            (Some(bytes), _) => ids.extend(text.bytes().map(|b| bytes[usize::from(b)])),
            (None, Some(unknown)) if !after_unknown => ids.push(unknown),
            _ => {}
        }
    }
}

impl<'a> Merging<'a> {
    fn new(pieces: &'a Pieces, text: &'a str) -> Self {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, c))| Symbol {
                start,
                length: c.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        Self { pieces, text, symbols, queue: BinaryHeap::new(), parts: BTreeMap::new() }
    }

    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(Some(right - 1), Some(right));
        }
        while let Some(best) = self.queue.pop() {
            let (left, right) = (self.symbols[best.left], self.symbols[best.right]);
            let stale = left.length == 0 || right.length == 0;
            if stale || left.length + right.length != best.length {
                continue;
            }
            self.symbols[best.left].length = best.length;
            self.symbols[best.left].next = right.next;
            self.symbols[best.right].length = 0;
            if let Some(next) = right.next {
                self.symbols[next].previous = Some(best.left);
            }
            self.consider(left.previous, Some(best.left));
            self.consider(Some(best.left), right.next);
        }
    }

    /// Queues a pair of neighbours if together they are a piece.
    fn consider(&mut self, left: Option<usize>, right: Option<usize>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let start = self.symbols[left].start;
        let length = self.symbols[left].length + self.symbols[right].length;
        let text = &self.text[start..start + length];
        if let Some(piece) = self.pieces.id(text) {
            self.queue.push(Candidate { score: piece.score, left, right, length });
            if piece.unused {
                self.parts.insert(text, self.symbols[left].length);
            }
        }
    }

    fn write(&self, ids: &mut Vec<u32>) {
        let mut after_unknown = false;
        let mut at = (!self.symbols.is_empty()).then_some(0);
        while let Some(index) = at {
            let symbol = self.symbols[index];
            let text = &self.text[symbol.start..symbol.start + symbol.length];
            self.write_piece(text, &mut after_unknown, ids);
            at = symbol.next;
        }
    }

    fn write_piece(&self, text: &str, after_unknown: &mut bool, ids: &mut Vec<u32>) {
        match (self.pieces.id(text), self.parts.get(text)) {
            (Some(piece), Some(&left)) if piece.unused => {
                self.write_piece(&text[..left], after_unknown, ids);
                self.write_piece(&text[left..], after_unknown, ids);
            }
            (Some(piece), _) => {
                ids.push(piece.id);
                *after_unknown = false;
            }
            (None, _) => {
                self.pieces.write_unknown(text, *after_unknown, ids);
                *after_unknown = true;
            }
        }
    }
}
