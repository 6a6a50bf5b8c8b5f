//! Norms of either kind behind one face.

use kernels::{
    Operand, Tensor,
    ops::{layer_norm, normed::Normed, rms_norm},
};

use crate::{NormKind, context::Context, decoder::Norm};

/// The rows of `x` normalized and rounded for products, and what backward needs of them.
pub(crate) fn forward(ctx: &Context<'_>, x: &Tensor, norm: &Norm) -> (Operand, Normed) {
    let config = &ctx.decoder.config;
    let (weight, eps) = (&norm.weight.value, config.norm_eps);
    match (config.norm, &norm.bias) {
        (NormKind::Layer, Some(bias)) => {
            layer_norm::forward(ctx.device, ctx.precision, x, [weight, &bias.value], eps)
        }
        _ => rms_norm::forward(ctx.device, ctx.precision, x, weight, eps),
    }
}

/// The rows once more, with the bits that they had.
pub(crate) fn again(ctx: &Context<'_>, normed: &Normed, norm: &Norm) -> Operand {
    let weight = &norm.weight.value;
    match (ctx.decoder.config.norm, &norm.bias) {
        (NormKind::Layer, Some(bias)) => {
            layer_norm::again(ctx.device, normed, [weight, &bias.value])
        }
        _ => rms_norm::again(ctx.device, normed, weight),
    }
}

/// The gradient by what was normalized; those by the weights are added to their places in `slots`.
pub(crate) fn backward(
    ctx: &Context<'_>,
    dy: &Tensor,
    normed: &Normed,
    norm: &Norm,
    slots: &mut [f32],
) -> Tensor {
    let saved = (normed, &norm.weight.value[..]);
    let trained = [norm.weight.slot, norm.bias.as_ref().and_then(|bias| bias.slot)];
    let ranges = trained.into_iter().flatten().map(|slot| ctx.arena.slots()[slot].range.clone());
    let mut parts = crate::Arena::gradients_of(slots, ranges).into_iter();
    if ctx.decoder.config.norm == NormKind::Layer {
        let daffine = parts.next().zip(parts.next()).map(|(weight, bias)| [weight, bias]);
        return layer_norm::backward(ctx.device, dy, saved, daffine);
    }
    rms_norm::backward(ctx.device, dy, saved, parts.next())
}
