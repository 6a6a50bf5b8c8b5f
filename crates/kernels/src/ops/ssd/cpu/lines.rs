//! Rows of a head as panels: lines of 32 columns, scaled, and turned.

use std::ops::Range;

use super::{CHUNK, Frame, Part};
use crate::cpu::gemm::PANEL;
use crate::cpu::turn::{F32_BLOCK, turn_f32};
use crate::cpu::{Cpu, Loop};

/// The numbers of the rows of a chunk for one head: `[P / 32][CHUNK][32]`.
pub(super) fn lines_len(frame: &Frame<'_>) -> usize {
    super::panels(frame.layout) * CHUNK * PANEL
}

/// Brings the rows of a chunk into lines, each times its scale: panels `[rows][32]`, `CHUNK` rows
/// apart. Rows that are asked for next are fetched meanwhile.
pub(super) fn pack(
    frame: &Frame<'_>,
    (part, rows, next): (Part<'_>, &Range<usize>, Option<&Range<usize>>),
    scale: Option<&[f32; CHUNK]>,
    lines: &mut [f32],
) {
    for row in next.into_iter().flat_map(Clone::clone) {
        part.prefetch(row);
    }
    frame.cpu.run(Pack { part, rows: rows.clone(), scale, lines });
}

struct Pack<'a> {
    part: Part<'a>,
    rows: Range<usize>,
    scale: Option<&'a [f32; CHUNK]>,
    lines: &'a mut [f32],
}

impl Loop for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (panel, lines) in self.lines.chunks_exact_mut(CHUNK * PANEL).enumerate() {
            let lines = lines.as_chunks_mut::<PANEL>().0;
            for (i, (row, line)) in self.rows.clone().zip(lines).enumerate() {
                let values = &self.part.row(row)[panel * PANEL..];
                let scale = self.scale.map_or(1.0, |scale| scale[i]);
                if let Some(values) = values.first_chunk::<PANEL>() {
                    *line = scaled(*values, scale);
                    continue;
                }
                line.fill(0.0);
                for (out, value) in line.iter_mut().zip(values) {
                    *out = scale * value;
                }
            }
        }
    }
}

/// From lines to rows `[rows][P rounded up to 32]`.
pub(super) fn to_rows(frame: &Frame<'_>, rows: usize, lines: &[f32], out: &mut [f32]) {
    let panels = super::panels(frame.layout);
    let lines = lines.as_chunks::<PANEL>().0;
    for (place, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().take(rows * panels).enumerate() {
        *out = lines[place % panels * CHUNK + place / panels];
    }
}

/// Multiplies the first `rows` lines of each panel by their scales.
pub(super) fn scale(frame: &Frame<'_>, rows: usize, scales: &[f32; CHUNK], lines: &mut [f32]) {
    frame.cpu.run(Scale { rows, scales, lines });
}

struct Scale<'a> {
    rows: usize,
    scales: &'a [f32; CHUNK],
    lines: &'a mut [f32],
}

impl Loop for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for lines in self.lines.chunks_exact_mut(CHUNK * PANEL) {
            let lines = lines.as_chunks_mut::<PANEL>().0;
            for (line, scale) in lines.iter_mut().zip(self.scales).take(self.rows) {
                *line = scaled(*line, *scale);
            }
        }
    }
}

/// From lines to panels of the transpose: `[rows / 32][P rounded up to 32][32 rows]`.
pub(super) fn turn(cpu: Cpu, rows: usize, lines: &[f32], turned: &mut [f32]) {
    let panels = lines.len() / (CHUNK * PANEL);
    for (band, out) in turned.chunks_exact_mut(panels * F32_BLOCK).enumerate() {
        let first = band * PANEL;
        if rows <= first {
            break;
        }
        let count = (rows - first).min(PANEL);
        let blocks = bytemuck::cast_slice_mut::<f32, u32>(out).as_chunks_mut::<F32_BLOCK>().0;
        for (lines, block) in lines.chunks_exact(CHUNK * PANEL).zip(blocks) {
            let lines = &lines[first * PANEL..(first + count) * PANEL];
            turn_f32(cpu, bytemuck::cast_slice(lines), block);
        }
    }
}

/// A line times a scale. By value, so that the compiler sees that nothing overlaps.
#[inline(always)]
pub(super) fn scaled(mut line: [f32; PANEL], scale: f32) -> [f32; PANEL] {
    for value in &mut line {
        *value *= scale;
    }
    line
}

/// Multiplies numbers by one scale.
pub(super) struct ScaleAll<'a> {
    pub(super) scale: f32,
    pub(super) values: &'a mut [f32],
}

impl Loop for ScaleAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for value in self.values {
            *value *= self.scale;
        }
    }
}

/// Multiplies rows of a multiple of 32 columns by their scales.
pub(super) struct ScaleRows<'a> {
    pub(super) cols: usize,
    pub(super) scales: &'a [f32],
    pub(super) values: &'a mut [f32],
}

impl Loop for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (row, scale) in self.values.chunks_exact_mut(self.cols).zip(self.scales) {
            for line in row.as_chunks_mut::<PANEL>().0 {
                *line = scaled(*line, *scale);
            }
        }
    }
}
