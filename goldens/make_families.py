"""Makes goldens/model/<variant>/ for the families beside Llama, as make_model.py does for Llama.

Everything that distinguishes a family is set so that it matters: windows shorter than the
sequences, soft caps that bend, chunks of 8 tokens, multipliers other than 1, biases and norms at
random. Models run in f64 with transformers' eager attention. Needs what make_model.py needs.
Run in the project's root: `python goldens/make_families.py [OUT]`.
"""
import json
from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from make_model import How, fresh_folder, make

# As in make_model.py, and completions and prompts shorter than a convolution over four tokens. No
# prompt ends where a chunk of 8 does. The long pair alone passes an original context of 64.
LENGTHS = [(7, 5, 8, 0), (3, 1, 4, 0), (12, 9, 2, 0), (1, 6, 6, 2), (70, 33, 21, 0), (17, 16, 16, 5), (10, 1, 2, 0)]

SMALL = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=96, max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=None,
)
MULTIPLIERS = dict(embedding_multiplier=2.5, residual_multiplier=0.6, attention_multiplier=0.21, logits_scaling=1.7)
HYBRID = dict(
    num_hidden_layers=3, layer_types=["linear_attention", "full_attention", "linear_attention"], num_local_experts=0,
    num_experts_per_tok=0, shared_intermediate_size=40, mamba_n_heads=8, mamba_d_head=8, mamba_d_state=16,
    mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=8, mamba_conv_bias=True, tie_word_embeddings=True, **MULTIPLIERS,
)


class Family(NamedTuple):
    """A variant: its settings over SMALL, how config.json spells them, and how weights are stored."""

    kind: str
    settings: dict
    older: callable = None  # turns config.json into the spelling of published checkpoints
    stored: torch.dtype = torch.float32
    rslora: bool = False


def older_rope(config, **more):
    """`rope_theta` and `rope_scaling` as transformers 4 wrote them."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope.pop("partial_rotary_factor", None)
    config["rope_scaling"] = None if rope["rope_type"] == "default" else {"type": rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.45.0"
    config.update(more)


def older_layers(config, **more):
    """The same without the list of layer types, which then follows from other keys."""
    config.pop("layer_types")
    older_rope(config, **more)


def older_two_ropes(config):
    """One scaling and two bases, and every third layer global."""
    rope = config.pop("rope_parameters")
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": rope["full_attention"].pop("rope_theta")}
    older_layers(config, sliding_window_pattern=3, rope_local_base_freq=rope["sliding_attention"]["rope_theta"])
    config.pop("_sliding_window_pattern", None)
    config["rope_scaling"] = rope["full_attention"]


def older_longrope(config):
    """Partial rotation and the original context beside `rope_scaling`."""
    rope = config["rope_parameters"]
    original, part = rope.pop("original_max_position_embeddings"), rope["partial_rotary_factor"]
    older_rope(config, original_max_position_embeddings=original, partial_rotary_factor=part)


def older_mixers(config):
    """`mamba` and `attention` as types of layers."""
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    older_rope(config, layer_types=[names[kind] for kind in config["layer_types"]])


def ignored_window(config):
    """A window that `use_sliding_window` turns off."""
    older_layers(config, sliding_window=8, use_sliding_window=False)


GEMMA = dict(num_hidden_layers=3, head_dim=12, sliding_window=9, tie_word_embeddings=True)

FAMILIES = {
    "mistral": Family("mistral", dict(head_dim=10, sliding_window=11), older_rope),
    "qwen2": Family(
        "qwen2",
        dict(
            hidden_size=48, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True, max_window_layers=1,
        ),
        ignored_window, torch.bfloat16, rslora=True,
    ),
    "qwen2-window": Family("qwen2", dict(use_sliding_window=True, sliding_window=9, max_window_layers=1)),
    "qwen3": Family("qwen3", dict(head_dim=12, rope_parameters={"rope_type": "default", "rope_theta": 50000.0})),
    "smollm3": Family(
        "smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=2, tie_word_embeddings=True), older_layers,
        torch.bfloat16,
    ),
    "gemma2": Family(
        "gemma2",
        dict(**GEMMA, query_pre_attn_scalar=7, attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
        older_layers,
    ),
    "gemma3": Family(
        "gemma3_text",
        dict(
            **{**GEMMA, "num_hidden_layers": 4}, query_pre_attn_scalar=10,
            layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "default", "rope_theta": 20000.0},
            },
        ),
    ),
    "gemma3-linear": Family(
        "gemma3_text",
        dict(
            **GEMMA, query_pre_attn_scalar=12,
            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0},
            },
        ),
        older_two_ropes, torch.bfloat16,
    ),
    "gpt2": Family("gpt2", dict(layer_norm_epsilon=1e-5, n_inner=None)),
    "phi3": Family("phi3", dict(sliding_window=13)),
    "phi3-longrope": Family(
        "phi3",
        dict(
            hidden_size=48, num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True,
            original_max_position_embeddings=64,
            rope_parameters={
                "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75,
                "original_max_position_embeddings": 64,
                "short_factor": [1.0, 1.1, 1.3, 1.2, 1.5, 1.4], "long_factor": [1.0, 1.8, 2.5, 4.0, 6.0, 9.0],
            },
        ),
        older_longrope, torch.bfloat16,
    ),
    "granite": Family("granite", dict(**MULTIPLIERS, tie_word_embeddings=True)),
    "granite-hybrid": Family(
        "granitemoehybrid", dict(**HYBRID, mamba_n_groups=1, position_embedding_type="nope"), older_mixers
    ),
    "granite-hybrid-rope": Family(
        "granitemoehybrid",
        dict(
            **{**HYBRID, "tie_word_embeddings": False}, mamba_n_groups=2, mamba_proj_bias=True,
            position_embedding_type="rope", time_step_limit=[0.1, 1.5],
        ),
        None, torch.bfloat16,
    ),
}


class Exact(TorchFunctionMode):
    """Computes in f64 what transformers casts to f32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.float:
            return args[0].double()
        exact = lambda value: torch.float64 if value is torch.float32 else value
        return func(*map(exact, args), **{key: exact(value) for key, value in (kwargs or {}).items()})


def in_f64(model):
    """The same model in f64 throughout; the frequencies of rotation stay rounded to f32."""
    for module in model.modules():
        if getattr(module, "rope_type", None) == "longrope":  # Which it would compute while it runs.
            original = module.config.rope_parameters["original_max_position_embeddings"]
            module.long_inv_freq, _ = ROPE_INIT_FUNCTIONS["longrope"](module.config, seq_len=original + 1)
    model = model.double().eval()
    forward = model.forward

    def exact_forward(*args, **kwargs):
        with Exact():
            return forward(*args, **kwargs)

    model.forward = exact_forward
    return model


def random_weight(kind, key, parameter, tied, noise):
    """A weight of useful size: norms near 1, biases and decays of all sizes, logits of a few units."""
    is_norm = "norm" in key or ".ln_" in key
    if key.endswith("A_log"):  # Heads remember from less than one to about thirty tokens.
        return torch.linspace(-2.5, 1.0, parameter.numel()) + 0.2 * noise
    if key.endswith("dt_bias"):
        return 0.5 * noise - 1.0
    if key.endswith(".D"):
        return 1.0 + 0.5 * noise
    if key.endswith("bias"):
        return 0.3 * noise
    if is_norm:
        return 0.3 * noise if kind.startswith("gemma") else 1.0 + 0.3 * noise
    if "embed" in key or key.endswith("wte.weight"):
        return 0.35 * noise if tied else 0.8 * noise
    if key.endswith("wpe.weight"):
        return 0.35 * noise
    if "conv1d" in key:
        return 0.6 * noise
    return 1.3 * noise / parameter.shape[0 if kind == "gpt2" else 1] ** 0.5


def random_model(family, seed):
    """A model of a family whose every weight is random."""
    usual = AutoConfig.for_model(family.kind)
    small = {key: value for key, value in SMALL.items() if hasattr(usual, key)}
    config = AutoConfig.for_model(family.kind, **{**small, **family.settings})
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(random_weight(family.kind, key, parameter, config.tie_word_embeddings, noise))
    return model.to(family.stored)


def save_model(family, model, folder):
    """Saves as transformers does, or in the spelling of published checkpoints; both load the same."""
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if family.older is None:
        return
    path = folder / "config.json"
    before = AutoConfig.from_pretrained(folder).to_dict()
    config = json.loads(path.read_text())
    family.older(config)
    path.write_text(json.dumps(config, indent=2) + "\n")
    after = AutoConfig.from_pretrained(folder).to_dict()
    after["rope_parameters"].pop("type", None)
    for key in before:
        if key not in ("transformers_version", "_sliding_window_pattern"):
            assert before[key] == after[key], (family.kind, key, before[key], after[key])


def some_weights(model):
    """All vectors, and every matrix of the last layer that has one of its name."""
    kept = {}
    for key, parameter in model.named_parameters():
        name = ".".join(part for part in key.split(".") if not part.isdigit())
        kept[key if parameter.dim() == 1 else name] = key
    return list(kept.values())


if __name__ == "__main__":
    for index, (name, family) in enumerate(FAMILIES.items(), start=20):
        folder = fresh_folder(name)
        save_model(family, random_model(family, 100 + index), folder)
        how = How(index, in_f64, some_weights, LENGTHS, family.rslora, "eager")
        make(name, folder, how, SMALL["vocab_size"])
