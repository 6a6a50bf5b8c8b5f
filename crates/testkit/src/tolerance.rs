//! Every tolerance of every test, each with its reason.

/// The same f64 arithmetic in another order: a few units in the last place, no more.
pub const SAME_F64_ARITHMETIC: f64 = 1e-13;

/// Relative: an objective in f64 against 200 digits. A chain of some ten functions, each a few units
/// in the last place; a slope near its zero cancels a digit or two.
pub const OBJECTIVE_F64: f64 = 1e-12;

/// Absolute: slopes by central differences of step 1e-60 have an error of its square; below this
/// nothing is compared.
pub const DIFFERENCE_NOISE: f64 = 1e-100;

/// Relative: a central difference of step 1e-4 on a sum of losses of up to 1e5, where the second
/// difference says that the slope moves little; its rounding is 1e-16 of the sum over the step.
pub const OBJECTIVE_SLOPE: f64 = 4e-6;

/// Relative: sums over rows in another order, and differences of terms that nearly cancel.
pub const CANCELLED_F64: f64 = 1e-9;

/// Relative: an objective against TRL's statements; some of those round to f32 on the way.
pub const OBJECTIVE_TRL: f64 = 1e-6;

/// Absolute: values that a page prints with six digits after the point.
pub const SIX_PRINTED_DIGITS: f64 = 5.1e-7;

/// Absolute: values that a page prints with nine digits after the point.
pub const NINE_PRINTED_DIGITS: f64 = 5.1e-10;

/// Relative: the mean square of 9,216 uniform draws strays 0.9 % at one standard error.
pub const UNIFORM_MEAN_SQUARE: f64 = 0.05;

/// Relative: probabilities of tokens; transformers scales the logits in f32, which is an error of
/// some 1e-7 times a logit of up to 10.
pub const SAMPLED_PROBABILITY: f64 = 5e-6;

/// Of a chi-square statistic with 7 degrees of freedom: fair draws exceed it once in a million.
pub const CHI_SQUARE_7: f64 = 40.52;

/// Standard errors that the share of dropped elements may stray from its probability: among a
/// thousand shares, one in a million of such tests would fail by chance.
pub const DROPPED_SIGMAS: f64 = 6.0;

/// Relative: a central difference of step 1e-4 on a smooth f64 loss; its own error is h^2 f''' / 6
/// and about 1e-16 f / h.
pub const SLOPE_F64: f64 = 1e-6;

/// The vector exponential, in halves of a unit in the last place: half a unit of the last rounding
/// and up to one of the sum before it.
pub const EXP_HALF_ULPS: f64 = 3.0;

/// Sums of a few products near 1, which the reference rounds to f32 at each step.
pub const SHORT_F32_SUM: f64 = 1e-5;

/// Relative: bf16 keeps 8 bits, so rounding to it is off by at most 2^-8, and the f32 value before
/// it by a few 2^-24.
pub const BF16_ROUNDING: f64 = 0.003_92;

/// Relative to the largest value: a row's sum of some hundred f32 products in 32 lanes, then a few
/// f32 roundings.
pub const ROW_SUM_F32: f64 = 2e-6;

/// Relative: the negative log-likelihood of a text under real weights, in f32 in both programs, whose
/// sums over hundreds of terms run in other orders; layers carry the difference on.
pub const LIKELIHOOD_PARITY: f64 = 1e-4;

/// Relative: a hyperbolic tangent is one f32 quotient of sums, or one of an exponential of 1.5 units
/// in the last place, where the result is above a half.
pub const TANH_F32: f64 = 4e-7;

/// Relative: the gated activation and its gradient are about ten f32 operations on an exponential
/// of 1.5 units in the last place.
pub const ACTIVATION_F32: f64 = 1e-6;

/// Relative: what GELU takes the exponential of is a cubic in f32, of up to 16 where the result still
/// counts; its rounding is that many times as large in the power.
pub const GELU_F32: f64 = 4e-6;

/// Relative to the largest value: torch's f32 kernels and ours round the same few operations in
/// another order.
pub const F32_GOLDEN: f64 = 1e-6;

/// Relative: an inverse frequency is a power, a division and a scaling, each off by half a unit of
/// f32; torch's power by a whole one.
pub const FREQUENCY_F32: f64 = 2.4e-7;

/// A number of at most 1 rounded to f32 is off by at most 2^-25; the f64 before it by far less.
pub const ONE_F32_ROUNDING: f64 = 2.981e-8;

/// Relative to the larger of a pair: sine, cosine, two products and a sum in f32.
pub const ROTATION_F32: f64 = 2.5e-7;

/// Relative: a step of `AdamW` is about ten f32 operations, ten steps at most add up.
pub const ADAMW_F32: f64 = 1e-6;

/// Relative to the largest value: one chain of at most a few thousand f32 multiply-adds, whose
/// roundings stray like a random walk.
pub const F32_CHAIN: f64 = 5e-6;

/// Relative to the largest value: a sum of f32 products is rounded to bf16 and multiplied again;
/// where f32 and f64 fall on two sides of a tie the rounded value is off by 2^-8.
pub const BF16_REROUNDED: f64 = 0.008;

/// Relative: a tiny model in f32 against transformers in f64; sums of up to 33 tokens. Mean logits,
/// which cancel, are held to it absolutely, a token.
pub const MODEL_F32_LOGP: f64 = 2e-6;

/// One minus the cosine of a gradient in f32 with the one in f64.
pub const MODEL_F32_COSINE: f64 = 1e-8;

/// Relative: the norm of a gradient in f32 against the one in f64.
pub const MODEL_F32_NORM: f64 = 1e-5;

/// Relative norm: a prompt's gradients are summed over branches in another order.
pub const TREE_GRADIENT: f64 = 2e-6;

/// Relative: the norm of such a gradient.
pub const TREE_NORM: f64 = 1e-5;

/// The same in bf16, where the gradient of a prompt's rows is rounded once for the sum over its
/// branches in one case and once a branch in the other. A rounding is 2^-9, and those of all blocks
/// add up: 1.2e-3 was seen with 5 blocks, 4.2e-3 with 30.
pub const TREE_GRADIENT_BF16: f64 = 1e-2;

/// Relative: the norm of such a gradient in bf16, where roundings mostly cancel. Seen: 3e-5 with 5
/// blocks, 7e-5 with 30.
pub const TREE_NORM_BF16: f64 = 5e-4;

/// Relative to the largest value: products over a head and over some hundred keys in f32, with an
/// exponential between them; scores of magnitude 10 are off by 10 times 2^-24 before it.
pub const ATTENTION_F32: f64 = 1e-5;

/// Relative: the logarithm of 1 plus a power in f32: a power off by 1.5 units in the last place, a
/// quotient and a polynomial of seven terms.
pub const SOFTPLUS_F32: f64 = 3e-7;

/// Relative to the largest value: the scan in chunks against the recurrence, both in f64; sums of some
/// hundred products in another order, and decays from sums that nearly cancel.
pub const SCAN_F64: f64 = 1e-9;

/// Relative to the largest value: the scan in f32. Products over a state and over a chunk, exponentials
/// between them, and slopes of decays, which are small differences of larger sums.
pub const SCAN_F32: f64 = 2e-5;

/// Relative to the largest value: a convolution over a few rows in f32, the activation and its slope.
pub const CONVOLUTION_F32: f64 = 2e-6;

/// Relative to the largest value: probabilities and their gradients are rounded to bf16, off by at
/// most 2^-8 each.
pub const ATTENTION_BF16: f64 = 0.012;

/// Relative to the largest value: logits, exponentials and their sums in f32; logits of magnitude
/// 80 are off by 80 times 2^-24 before the exponential.
pub const HEAD_F32: f64 = 1e-5;

/// Relative to the largest value: probabilities are rounded to bf16, off by at most 2^-8.
pub const HEAD_BF16: f64 = 0.006;

/// Relative: a whole run in f32 against TRL's in f32, which itself strays from f64 by 3e-6 in the
/// loss and 2e-5 in the gradient norm.
pub const TRL_RELATIVE: f64 = 1e-4;

/// Absolute: margins and rewards of the same runs; TRL's stray from f64 by 7e-6.
pub const TRL_MARGIN: f64 = 1e-3;

/// Relative norm of the trained tensors after the same runs.
pub const TRL_WEIGHTS: f64 = 1e-3;

/// Relative for loss and gradient norm, absolute for margins: sums over another cut of a step.
pub const MICRO_BATCHES: f64 = 1e-5;

/// Relative: a number of one run that must be a multiple of another run's; products may be in bf16.
pub const RECIPE_RATIO: f64 = 1e-4;

/// Relative: log-probabilities in bf16 against f32, of a tiny model.
pub const RECIPE_BF16: f64 = 1e-2;

/// Relative: log-probabilities of a random model whose linears were rounded to 4 bits are those of
/// nearly the same model.
pub const RECIPE_4BIT: f64 = 5e-2;

/// Relative to the largest scale: scales of NF4 blocks after 8-bit storage; the mean that they are
/// held against is summed in another order, and is a last place away at most.
pub const NF4_SCALE: f64 = 1.2e-7;

/// Relative: log-probabilities of a tiny model whose changed weights were rounded to f16, off by
/// 2^-11 each, in random directions.
pub const FUSED_F16_LOGP: f64 = 1e-3;

/// The same in bf16, off by 2^-8 at most.
pub const FUSED_BF16_LOGP: f64 = 1e-2;

/// The squared error of packed K blocks, over the least that scales of full precision reach: scales
/// are rounded to 6 or 8 bits of a common one, and the search weighs large numbers more.
pub const K_BLOCK_ERROR: f64 = 1.2;

/// Absolute: numbers of at most 1 after packing, off by the rounding of their scale to f16, 2^-11, and
/// of that of their group to 6 bits of the block's.
pub const F16_SCALE: f64 = 2e-3;
