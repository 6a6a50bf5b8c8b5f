"""Makes goldens/model/<variant>/: tiny random Llamas, adapters, log-probabilities and gradients.

Models, adapters and values come from transformers and PEFT; the log-probabilities and gradients are
computed in f64 from the weights as stored. Needs torch, transformers, peft (versions are written
into each golden.json). Run in the project's root: `python goldens/make_model.py [OUT]`.

Each variant's folder holds:
  config.json, model*.safetensors     the model as transformers saves it
  adapter-r3/, adapter-r4/            random non-zero A and B, as PEFT saves them
  golden.json                         pairs of token ids, log-probabilities, loss, reference values
  gradients-r3.safetensors, ...-r4    dLoss/dA and dLoss/dB under PEFT's names
  gradients-full.safetensors          dLoss/dW of some weights in full fine-tuning
"""
import json
import pathlib
import re
import shutil
import sys
from typing import NamedTuple

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "goldens/model")
BETA = 0.5

# Lengths of (prompt, chosen, rejected, shared first tokens of both completions).
LENGTHS = [(7, 5, 8, 0), (3, 1, 4, 0), (12, 9, 1, 0), (1, 6, 6, 2), (70, 33, 21, 0), (17, 16, 16, 5)]

VARIANTS = {
    "gqa": dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=96, rms_norm_eps=1e-5,
    ),
    "tied": dict(
        hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
        vocab_size=112, tie_word_embeddings=True, rms_norm_eps=1e-5,
    ),
    "biased": dict(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        vocab_size=96, attention_bias=True, mlp_bias=True,
    ),
    "rope-llama3": dict(
        hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3,
        vocab_size=96, max_position_embeddings=256,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        },
    ),
    "rope-linear": dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=96, rope_parameters={"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
    ),
    "odd": dict(
        hidden_size=44, intermediate_size=54, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=6, vocab_size=101, rms_norm_eps=1e-6,
    ),
}
STORED = {"tied": torch.bfloat16, "odd": torch.float16}  # the rest is f32
SHARDED = {"biased"}
OLD_KEYS = {"rope-linear", "odd"}  # config.json as transformers 4 wrote it: `rope_theta` and `rope_scaling`
RSLORA = {"biased"}


class How(NamedTuple):
    """What `make` has to know of a variant beyond its files."""

    seed: int
    in_f64: callable  # the same model in f64 throughout
    wanted: callable  # names of the weights whose gradients are kept, from the model
    lengths: list
    rslora: bool = False
    attention: str | None = None  # which implementation of attention; None: as transformers chooses


def random_model(name, settings, seed):
    """A Llama whose every weight is random, norms and biases too, with logits of a few units."""
    config = LlamaConfig(**{"max_position_embeddings": 128, **settings}, bos_token_id=1, eos_token_id=2)
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in key:
                parameter.copy_(1.0 + 0.2 * noise)
            elif key.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "embed" in key:
                parameter.copy_(0.35 * noise if config.tie_word_embeddings else 0.8 * noise)
            else:
                parameter.copy_(1.3 * noise / parameter.shape[1] ** 0.5)
    return model.to(STORED.get(name, torch.float32))


def save_model(name, model, folder):
    """Saves as transformers does; two shards, or the older spelling of the rope keys, where wanted."""
    model.save_pretrained(folder, max_shard_size="60KB" if name in SHARDED else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    if name in OLD_KEYS:
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else {"type": rope.pop("rope_type"), **rope}
        config["torch_dtype"] = config.pop("dtype")
        config["transformers_version"] = "4.45.0"
    path.write_text(json.dumps(config, indent=2) + "\n")


def exact_norm(self, hidden):
    """`LlamaRMSNorm.forward` without its cast to f32."""
    return self.weight * (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def exact_rope(self, x, position_ids):
    """`LlamaRotaryEmbedding.forward` with angles, sines and cosines in f64; the frequencies stay f32."""
    angles = position_ids[..., None].double() * self.inv_freq.double()
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling


def in_f64(model):
    """The same model in f64 throughout: transformers casts to f32 in norms and rotation."""
    for module in model.modules():
        if isinstance(module, modeling_llama.LlamaRMSNorm):
            module.forward = exact_norm.__get__(module)
        elif isinstance(module, modeling_llama.LlamaRotaryEmbedding):
            module.forward = exact_rope.__get__(module)
    return model.double().eval()


def random_pairs(vocabulary, seed, lengths):
    """Pairs of random token ids; a pair's completions differ after their shared first tokens."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.randint(3, vocabulary, (count,), generator=generator).tolist()
    pairs = []
    for prompt, chosen, rejected, shared in lengths:
        start = draw(shared)
        chosen_ids, rejected_ids = start + draw(chosen - shared), start + draw(rejected - shared)
        if chosen_ids[shared] == rejected_ids[shared]:
            rejected_ids[shared] = 3 if chosen_ids[shared] != 3 else 4
        pairs.append({"prompt": draw(prompt), "chosen": chosen_ids, "rejected": rejected_ids})
    return pairs


def score(model, prompt, completion):
    """Per-token log-probabilities of one completion (with gradient), and what a fused head reports."""
    logits = model(torch.tensor([prompt + completion]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    log_p = logits.log_softmax(-1)
    targets = torch.tensor(completion)
    token_logps = log_p[torch.arange(len(completion)), targets]
    with torch.no_grad():
        facts = {
            "logp": token_logps.sum().item(),
            "token_logps": token_logps.tolist(),
            "entropy_sum": -(log_p.exp() * log_p).sum().item(),
            "mean_logit_sum": logits.mean(-1).sum().item(),
            "ln_sum_p2_sum": (2 * log_p).logsumexp(-1).sum().item(),
            "argmax_hits": int((logits.argmax(-1) == targets).sum()),
            "logit_rms": logits.pow(2).mean().sqrt().item(),
        }
    return token_logps.sum(), facts


def score_pairs(model, pairs):
    """Scores of every pair: the two sums (with gradient) and the facts of both completions."""
    scored = [[score(model, pair["prompt"], pair[side]) for side in ("chosen", "rejected")] for pair in pairs]
    return [[s for s, _ in row] for row in scored], [{"chosen": c[1], "rejected": r[1]} for c, r in scored]


def dpo_step(sums, reference):
    """Mean sigmoid loss of DPO, its pairs, and the gradient of the loss at each log-probability."""
    losses = [-torch.nn.functional.logsigmoid(BETA * ((c - rc) - (r - rr))) for (c, r), (rc, rr) in zip(sums, reference)]
    loss = torch.stack(losses).mean()
    flat = [s for row in sums for s in row]
    coefficients = [c.item() for c in torch.autograd.grad(loss, flat, retain_graph=True)]
    return loss, {
        "loss": loss.item(),
        "losses": [l.item() for l in losses],
        "coefficients": [coefficients[i : i + 2] for i in range(0, len(coefficients), 2)],
    }


def make_adapter(model, folder, rank, rslora, seed):
    """Saves a LoRA on all linears with random A and B, as PEFT saves it."""
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank + 1, target_modules="all-linear", use_rslora=rslora, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                scale = 1.0 / parameter.shape[1] ** 0.5 if "lora_A" in key else 0.15
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config_path = folder / "adapter_config.json"
    written = json.loads(config_path.read_text())
    written["base_model_name_or_path"] = None  # where this script ran
    written["target_modules"] = sorted(written["target_modules"])  # a set, in arbitrary order
    config_path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def load(folder, how):
    """The model of a folder, in f32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=how.attention)


def lora_golden(folder, how, rank, pairs, reference):
    """Scores and gradients under base + adapter; the reference is the base model."""
    base = load(folder, how)
    model = how.in_f64(PeftModel.from_pretrained(base, folder / f"adapter-r{rank}", is_trainable=True))
    sums, facts = score_pairs(model, pairs)
    loss, step = dpo_step(sums, reference)
    loss.backward()
    gradients = {
        key.replace(".default", ""): parameter.grad.float().contiguous()
        for key, parameter in model.named_parameters()
        if "lora_" in key
    }
    save_file(gradients, folder / f"gradients-r{rank}.safetensors")
    norm = sum(p.grad.pow(2).sum() for k, p in model.named_parameters() if "lora_" in k).sqrt().item()
    return {"scores": facts, **step, "grad_norm": norm}


def full_golden(folder, how, pairs, reference):
    """Gradients of full fine-tuning against a reference that is given as numbers."""
    model = how.in_f64(load(folder, how))
    sums, _ = score_pairs(model, pairs)
    loss, step = dpo_step(sums, reference)
    loss.backward()
    parameters = dict(model.named_parameters())
    wanted = [key for key in how.wanted(model) if key in parameters]
    gradients = {key: parameters[key].grad.float().contiguous() for key in wanted}
    save_file(gradients, folder / "gradients-full.safetensors")
    norm = sum(p.grad.pow(2).sum() for p in parameters.values()).sqrt().item()
    return {"reference": reference, **step, "grad_norm": norm}


def some_weights(model):
    """Weights of a Llama of which the gradients are kept: some of every kind."""
    last = model.config.num_hidden_layers - 1
    return [
        "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.bias",
        f"model.layers.{last}.post_attention_layernorm.weight", f"model.layers.{last}.self_attn.v_proj.weight",
        f"model.layers.{last}.self_attn.o_proj.bias", f"model.layers.{last}.mlp.down_proj.weight",
        f"model.layers.{last}.mlp.gate_proj.bias", f"model.layers.{last}.self_attn.q_proj.bias",
    ]


def make(name, folder, how, vocabulary):
    """Adapters and values for the model that lies in `folder`."""
    pairs = random_pairs(vocabulary, 200 + how.seed, how.lengths)
    for rank in (3, 4):
        make_adapter(load(folder, how), folder / f"adapter-r{rank}", rank, how.rslora, 300 + 10 * how.seed + rank)
    plain = load(folder, how)
    with torch.no_grad():
        _, single = score_pairs(plain, pairs)
        sums, facts = score_pairs(how.in_f64(plain), pairs)
    for exact, usual in zip(facts, single):  # The f64 forward is transformers' own, but for rounding.
        for side in ("chosen", "rejected"):
            assert abs(exact[side]["logp"] - usual[side]["logp"]) < 2e-4, (name, exact[side], usual[side])
    reference = [[s.item() for s in row] for row in sums]
    shifted = [[c - 0.75 + 0.25 * i, r + 0.5 - 0.375 * i] for i, (c, r) in enumerate(reference)]
    golden = {
        "source": f"transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__}, in f64",
        "beta": BETA,
        "pairs": pairs,
        "base": facts,
        "r3": lora_golden(folder, how, 3, pairs, reference),
        "r4": lora_golden(folder, how, 4, pairs, reference),
        "full": full_golden(folder, how, pairs, shifted),
    }
    text = json.dumps(golden, indent=1)
    # Lists of plain numbers go on one line.
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m.group(1)) + "]", text)
    (folder / "golden.json").write_text(text + "\n")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    r4 = golden["r4"]
    print(f"{name}: {size // 1024} KiB, rms {facts[0]['chosen']['logit_rms']:.2f}, loss {r4['loss']:.4f} {golden['full']['loss']:.4f}, norm {r4['grad_norm']:.3f}")


def fresh_folder(name):
    """An empty folder for a variant."""
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
if __name__ == "__main__":
    for index, (name, settings) in enumerate(VARIANTS.items()):
        folder = fresh_folder(name)
        save_model(name, random_model(name, settings, 100 + index), folder)
        make(name, folder, How(index, in_f64, some_weights, LENGTHS, name in RSLORA), settings["vocab_size"])
