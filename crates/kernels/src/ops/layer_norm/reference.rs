//! The normalization in plain loops, over rows of any float.

use crate::Real;

fn mean<R: Real>(values: impl ExactSizeIterator<Item = R>) -> R {
    let count = R::of(values.len() as f64);
    values.fold(R::ZERO, |sum, value| sum + value) / count
}

/// `y`, and mean and inverse deviation of each row.
pub fn forward<R: Real>(x: &[R], [weight, bias]: [&[R]; 2], eps: R) -> (Vec<R>, Vec<R>) {
    let (mut y, mut moments) = (Vec::new(), Vec::new());
    for row in x.chunks(weight.len()) {
        let middle = mean(row.iter().copied());
        let variance = mean(row.iter().map(|&x| (x - middle) * (x - middle)));
        let inv = R::ONE / (variance + eps).sqrt();
        let parts = row.iter().zip(weight).zip(bias);
        y.extend(parts.map(|((&x, &weight), &bias)| weight * ((x - middle) * inv) + bias));
        moments.extend([middle, inv]);
    }
    (y, moments)
}

/// `dx`, and the gradients by weight and bias, for the gradient `dy` by `y`.
pub fn backward<R: Real>(dy: &[R], x: &[R], weight: &[R], moments: &[R]) -> (Vec<R>, [Vec<R>; 2]) {
    let cols = weight.len();
    let mut dx = Vec::new();
    let (mut dweight, mut dbias) = (vec![R::ZERO; cols], vec![R::ZERO; cols]);
    for ((dy, x), moments) in dy.chunks(cols).zip(x.chunks(cols)).zip(moments.chunks(2)) {
        let z: Vec<R> = x.iter().map(|&x| (x - moments[0]) * moments[1]).collect();
        let g: Vec<R> = dy.iter().zip(weight).map(|(&dy, &weight)| dy * weight).collect();
        let (mean_g, mean_gz) =
            (mean(g.iter().copied()), mean(g.iter().zip(&z).map(|(&g, &z)| g * z)));
        for i in 0..cols {
            dx.push(moments[1] * (g[i] - mean_g - z[i] * mean_gz));
            dweight[i] += dy[i] * z[i];
            dbias[i] += dy[i];
        }
    }
    (dx, [dweight, dbias])
}
