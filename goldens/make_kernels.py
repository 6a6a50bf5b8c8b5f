"""Makes goldens/kernels/*.json: values and gradients of the small operations, from their origins.

Run as `cargo xtask goldens` with TRUEUP_ORACLE naming a virtual environment that holds
torch 2.15.0, transformers 5.23.0 and numpy (any recent version).

Every number is written so that it reads back as the same f32 or f64. Nothing here is random:
inputs come from a small integer recurrence, so that every machine makes the same files.
"""
import json
import pathlib

import torch
import transformers
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

torch.set_num_threads(1)
FOLDER = pathlib.Path(__file__).resolve().parent / "kernels"
VERSIONS = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"


def numbers(count, seed, scale=1.0):
    """Evenly spread values in (-scale, scale), each an exact multiple of scale / 2**20."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(((state >> 10) / 2**20 - 1.0) * scale)
    return out


def write(name, source, cases):
    golden = {"source": f"{source}; {VERSIONS}", "cases": cases}
    (FOLDER / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    print(f"kernels/{name}: {len(cases)} cases")


def adamw():
    """Ten steps over a decayed and an undecayed tensor, with a rate that changes every step."""
    cases = []
    for name, weight_decay, scale in [("plain", 0.0, 1.0), ("decay", 0.1, 1.0), ("tiny_gradients", 0.01, 1e-9), ("huge_gradients", 0.01, 1e12)]:
        sizes = [13, 6]
        params = [torch.nn.Parameter(torch.tensor(numbers(n, 7 + n))) for n in sizes]
        groups = [{"params": [params[0]], "weight_decay": weight_decay}, {"params": [params[1]], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8, foreach=False)
        start, steps = [v for p in params for v in p.tolist()], []
        for step in range(10):
            rate = 0.01 * (step + 1) / 10
            for group in optimizer.param_groups:
                group["lr"] = rate
            gradients = []
            for tensor, param in enumerate(params):
                values = numbers(len(param), 1000 * step + tensor + 1, scale)
                values[step % len(param)] = 0.0
                param.grad = torch.tensor(values)
                gradients += param.grad.tolist()
            optimizer.step()
            steps.append({"learning_rate": rate, "gradients": gradients, "values": [v for p in params for v in p.tolist()]})
        state = [optimizer.state[p] for p in params]
        cases.append({
            "name": name, "weight_decay": weight_decay, "decayed": sizes[0], "values": start, "steps": steps,
            "first_moments": [v for s in state for v in s["exp_avg"].tolist()],
            "second_moments": [v for s in state for v in s["exp_avg_sq"].tolist()],
        })
    write("adamw", "torch.optim.AdamW, betas 0.9 and 0.999, eps 1e-8, f32", cases)


def clip():
    """Gradient norms and the factor that clip_grad_norm_ multiplies by."""
    cases = []
    for scale in [0.01, 1.0, 100.0]:
        param = torch.nn.Parameter(torch.zeros(37, dtype=torch.float64))
        values = numbers(37, 5, scale)
        param.grad = torch.tensor(values, dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_([param], 1.0)
        factor = (param.grad[0] / values[0]).item()
        cases.append({"gradients": values, "norm": norm.item(), "max_norm": 1.0, "factor": factor})
    write("clip", "torch.nn.utils.clip_grad_norm_, f64", cases)


LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ROPE = {
    "theta_1e4_dim_64": (64, 10000.0, {"rope_type": "default"}),
    "theta_1e5_dim_64": (64, 100000.0, {"rope_type": "default"}),
    "theta_1e6_dim_128": (128, 1000000.0, {"rope_type": "default"}),
    "dim_6": (6, 10000.0, {"rope_type": "default"}),
    "linear": (64, 10000.0, {"rope_type": "linear", "factor": 4.0}),
    "llama3": (64, 500000.0, LLAMA3),
    "llama3_8b": (128, 500000.0, {**LLAMA3, "factor": 8.0}),
}


def rope():
    """Inverse frequencies, and one query and one key head rotated, with the gradient by its input."""
    cases = []
    for name, (dim, theta, scaling) in ROPE.items():
        config = LlamaConfig(hidden_size=dim, num_attention_heads=1, head_dim=dim, max_position_embeddings=131072, rope_parameters={"rope_theta": theta, **scaling})
        module = LlamaRotaryEmbedding(config)
        assert module.attention_scaling == 1.0
        positions = [0, 1, 63, 4095, 100003]
        query, key, weight = [torch.tensor(numbers(len(positions) * dim, seed)).view(1, 1, len(positions), dim) for seed in (3, 4, 5)]
        query.requires_grad_()
        cos, sin = module(query, torch.tensor([positions]))
        turned_query, turned_key = apply_rotary_pos_emb(query, key, cos, sin)
        (turned_query * weight).sum().backward()
        flat = lambda tensor: tensor.detach().flatten().tolist()
        cases.append({
            "name": name, "dim": dim, "theta": theta, "scaling": scaling,
            "inverse_frequencies": module.inv_freq.tolist(), "positions": positions,
            "query": flat(query), "key": flat(key), "turned_query": flat(turned_query), "turned_key": flat(turned_key),
            "turned_query_gradient": flat(weight), "query_gradient": flat(query.grad),
        } if dim == 6 else {"name": name, "dim": dim, "theta": theta, "scaling": scaling, "inverse_frequencies": module.inv_freq.tolist()})
    write("rope", "transformers LlamaRotaryEmbedding and apply_rotary_pos_emb, f32", cases)


def rms_norm():
    """Forward, and gradients by input and weight, of LlamaRMSNorm in f32 (it computes in f32 always).

    Beyond 1e10 torch's gradient loses digits: it takes the third power of the inverse root.
    """
    cases = []
    for name, rows, cols, scale, eps in [("plain", 3, 7, 1.0, 1e-5), ("zero_row", 2, 5, 0.0, 1e-6), ("huge", 2, 9, 1e10, 1e-5), ("tiny", 2, 9, 1e-6, 1e-5)]:
        module = LlamaRMSNorm(cols, eps)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(numbers(cols, 11)))
        x = torch.tensor(numbers(rows * cols, 12, scale)).view(rows, cols).requires_grad_()
        dy = torch.tensor(numbers(rows * cols, 13)).view(rows, cols)
        y = module(x)
        y.backward(dy)
        flat = lambda tensor: tensor.detach().flatten().tolist()
        cases.append({"name": name, "rows": rows, "cols": cols, "eps": eps, "x": flat(x), "weight": flat(module.weight), "dy": flat(dy),
                      "y": flat(y), "dx": flat(x.grad), "dweight": flat(module.weight.grad)})
    write("rms_norm", "transformers LlamaRMSNorm, f32", cases)


def activation():
    """The activations and their gradients, in f64."""
    gate = [-1000.0, -90.0, -20.0, -2.5, -1.25, -1e-8, 0.0, 1e-8, 0.5, 3.0, 20.0, 90.0, 1000.0]
    up, dy = numbers(len(gate), 21, 4.0), torch.tensor(numbers(len(gate), 22), dtype=torch.float64)
    gelu = lambda x: torch.nn.functional.gelu(x, approximate="tanh")
    cases = []
    for name, act, gated in [("silu, gated", torch.nn.functional.silu, True), ("gelu_tanh, gated", gelu, True), ("gelu_tanh", gelu, False)]:
        x = torch.tensor(gate + (up if gated else []), dtype=torch.float64, requires_grad=True)
        y = act(x[:len(gate)]) * (x[len(gate):] if gated else 1.0)
        y.backward(dy)
        cases.append({"name": name, "x": x.tolist(), "dy": dy.tolist(), "y": y.tolist(), "dx": x.grad.tolist()})
    write("activation", "torch.nn.functional.silu and gelu(approximate='tanh'), f64", cases)


def layer_norm():
    """Centred normalization with weight and bias, and its gradients, in f64."""
    cases = []
    for rows, cols, eps in [(3, 8, 1e-5), (2, 33, 1e-12), (1, 2, 1e-5)]:
        tensors = [torch.tensor(numbers(n, seed, 2.0), dtype=torch.float64) for n, seed in [(rows * cols, 31), (cols, 32), (cols, 33), (rows * cols, 34)]]
        x, weight, bias, dy = tensors
        x = x.view(rows, cols).requires_grad_()
        weight.requires_grad_(), bias.requires_grad_()
        y = torch.nn.functional.layer_norm(x, (cols,), weight, bias, eps)
        y.backward(dy.view(rows, cols))
        flat = lambda tensor: tensor.detach().flatten().tolist()
        cases.append({"name": f"{rows} x {cols}", "rows": rows, "cols": cols, "eps": eps, "x": flat(x), "weight": flat(weight), "bias": flat(bias), "dy": flat(dy),
                      "y": flat(y), "dx": flat(x.grad), "dweight": flat(weight.grad), "dbias": flat(bias.grad)})
    write("layer_norm", "torch.nn.functional.layer_norm, f64", cases)


adamw()
clip()
rope()
rms_norm()
activation()
layer_norm()
