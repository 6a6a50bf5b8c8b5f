//! The mixer that carries a state: a convolution, the scan of Mamba-2 and a gated norm
//! (arXiv:2405.21060), between the two linears of its block.
//!
//! A projected row holds the gate, what is convolved, and the steps, in this order.

use kernels::{
    Columns, ColumnsMut, Operand, Tensor,
    ops::{conv1d, gated_norm, ssd},
};

use crate::{Arena, ScanShape, context::Context, decoder};

/// What the pass back needs of the pass forward, beside the projected rows.
pub(crate) struct Saved {
    xbc: Tensor,
    y: Tensor,
    inv_rms: Vec<f32>,
}

/// The state of one sequence in one block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Carried {
    conv: conv1d::State,
    scan: ssd::State,
}

impl Carried {
    /// The state before the first token.
    pub(crate) fn new(shape: &ScanShape) -> Self {
        Self {
            conv: conv1d::State::new(shape.layout.xbc_cols(), shape.taps),
            scan: ssd::State::new(shape.layout),
        }
    }

    /// The bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.conv.bytes() + self.scan.bytes()
    }
}

/// The mixer of one block at work.
pub(crate) struct Scanning<'a> {
    ctx: &'a Context<'a>,
    shape: ScanShape,
    weights: &'a decoder::Scan,
}

impl<'a> Scanning<'a> {
    /// The mixer of a block, if it carries a state.
    pub(crate) fn of(ctx: &'a Context<'a>, layer: usize) -> Option<Self> {
        let weights = ctx.decoder.blocks[layer].scan.as_ref()?;
        Some(Self { ctx, shape: ctx.decoder.config.scan?, weights })
    }

    /// Whether its own tensors are trained.
    pub(crate) fn is_trained(&self) -> bool {
        self.weights.conv.slot.is_some()
    }

    /// The mixed rows, rounded for the product that follows.
    pub(crate) fn forward(&self, projected: &Tensor) -> (Operand, Saved) {
        let ctx = self.ctx;
        let xbc =
            conv1d::forward(ctx.device, self.convolved(projected), self.kernel(), ctx.branches);
        let input = self.input(&xbc, projected);
        let y = ssd::forward(ctx.device, input, &self.scan(), ctx.branches);
        let gate = Columns::all(projected);
        let (out, inv_rms) = gated_norm::forward(ctx.device, ctx.precision, &y, gate, self.norm());
        (out, Saved { xbc, y, inv_rms })
    }

    /// The gradient by the projected rows; those by the weights are added to their slots.
    pub(crate) fn backward(
        &self,
        d_out: &Tensor,
        projected: &Tensor,
        saved: &Saved,
        slots: &mut [f32],
    ) -> Tensor {
        let ctx = self.ctx;
        let [conv, steps] = self.starts();
        let mut d_in = Tensor::zeros(ctx.device, projected.rows(), projected.cols());
        let mut parts = self.gradients(slots).into_iter();
        let conv_grads = parts.next().map(|weight| {
            let bias = self.weights.conv_bias.as_ref().and_then(|_| parts.next());
            conv1d::WeightGrads { weight, bias }
        });
        let scan_grads = match (parts.next(), parts.next(), parts.next()) {
            (Some(dt_bias), Some(a_log), Some(d)) => Some(ssd::WeightGrads { a_log, d, dt_bias }),
            _ => None,
        };

        let gate = Columns::all(projected);
        let of_norm = gated_norm::Saved { x: &saved.y, gate, inv_rms: &saved.inv_rms };
        let d_gate = ColumnsMut { tensor: &mut d_in, first: 0 };
        let of_norm = (of_norm, self.norm());
        let dy = gated_norm::backward(ctx.device, d_out, of_norm, d_gate, parts.next());

        let dt = ColumnsMut { tensor: &mut d_in, first: steps };
        let into = ssd::Gradients { dt, weights: scan_grads };
        let input = self.input(&saved.xbc, projected);
        let d_xbc = ssd::backward(ctx.device, &dy, input, (&self.scan(), ctx.branches), into);

        let dx = ColumnsMut { tensor: &mut d_in, first: conv };
        let of_conv = (self.convolved(projected), self.kernel(), ctx.branches);
        conv1d::backward(ctx.device, &d_xbc, of_conv, dx, conv_grads);
        d_in
    }

    /// The mixed rows of a sequence that is read on.
    pub(crate) fn decode(&self, projected: &Tensor, carried: &mut Carried) -> Operand {
        let (device, x) = (self.ctx.device, self.convolved(projected));
        let xbc = conv1d::decode(device, x, self.kernel(), &mut carried.conv);
        let input = self.input(&xbc, projected);
        let y = ssd::decode(device, input, &self.scan(), &mut carried.scan);
        self.gated(&y, projected)
    }

    /// The mixed rows of several sequences that are read on by a token each.
    pub(crate) fn decode_each(&self, projected: &Tensor, carried: Vec<&mut Carried>) -> Operand {
        let (device, x) = (self.ctx.device, self.convolved(projected));
        let (mut convs, mut scans): (Vec<_>, Vec<_>) =
            carried.into_iter().map(|carried| (&mut carried.conv, &mut carried.scan)).unzip();
        let xbc = conv1d::decode_each(device, x, self.kernel(), &mut convs);
        let input = self.input(&xbc, projected);
        let y = ssd::decode_each(device, input, &self.scan(), &mut scans);
        self.gated(&y, projected)
    }

    fn gated(&self, y: &Tensor, projected: &Tensor) -> Operand {
        let gate = Columns::all(projected);
        gated_norm::forward(self.ctx.device, self.ctx.precision, y, gate, self.norm()).0
    }

    fn kernel(&self) -> conv1d::Kernel<'a> {
        conv1d::Kernel {
            weight: &self.weights.conv.value,
            bias: self.weights.conv_bias.as_ref().map(|bias| bias.value.as_slice()),
            taps: self.shape.taps,
        }
    }

    fn scan(&self) -> ssd::Scan<'a> {
        ssd::Scan {
            layout: self.shape.layout,
            limit: self.shape.limit,
            a_log: &self.weights.a_log.value,
            d: &self.weights.d.value,
            dt_bias: &self.weights.dt_bias.value,
        }
    }

    fn norm(&self) -> gated_norm::Norm<'a> {
        gated_norm::Norm {
            weight: &self.weights.norm.weight.value,
            groups: self.shape.layout.groups,
            eps: self.ctx.decoder.config.norm_eps,
        }
    }

    /// The first columns of what is convolved, and of the steps.
    fn starts(&self) -> [usize; 2] {
        let inner = self.shape.layout.inner();
        [inner, inner + self.shape.layout.xbc_cols()]
    }

    fn convolved<'b>(&self, projected: &'b Tensor) -> Columns<'b> {
        let [first, _] = self.starts();
        Columns { tensor: projected, first }
    }

    fn input<'b>(&self, xbc: &'b Tensor, projected: &'b Tensor) -> ssd::Input<'b> {
        let [_, first] = self.starts();
        ssd::Input { xbc, dt: Columns { tensor: projected, first } }
    }

    /// The gradients of all its tensors, the norm's last; none where they are frozen.
    fn gradients<'s>(&self, slots: &'s mut [f32]) -> Vec<&'s mut [f32]> {
        let norm = std::iter::once(&self.weights.norm.weight);
        let trained = self.weights.parts().chain(norm).filter_map(|part| part.slot);
        let ranges = trained.map(|slot| self.ctx.arena.slots()[slot].range.clone());
        Arena::gradients_of(slots, ranges)
    }
}
