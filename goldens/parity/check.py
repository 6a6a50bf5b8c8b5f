"""Scores pairs with transformers and PEFT, and compares gradients.

`python check.py REQUEST.json` prints one JSON object for one of

  {"scores": [...], "gradients": [...]}

  scores     of each {model, adapter, rows, only}: the summed log-probabilities, in f32, of both completions of
             the rows of a tokens.jsonl (those numbered in `only`, if it is not null) under the weights of a
             folder, with the adapter of another, if that is not null: [[chosen, rejected], ...]
  gradients  of each {trl, checkpoint}, the gradient that TRL saved and a checkpoint of one step from scratch:
             per tensor its name, the cosine of both gradients, and both norms
"""
import functools
import json
import pathlib
import sys

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
LINEARS += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
FIRST_MOMENT_SHARE = 0.1  # of the gradient, in AdamW's first moment after one step: 1 - beta1


@torch.no_grad()
def logp(model, prompt, completion):
    wanted = len(completion) + 1
    logits = model(torch.tensor([prompt + completion]), use_cache=False, logits_to_keep=wanted).logits[0, :-1]
    picked = logits.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)]
    return picked.double().sum().item()


@functools.lru_cache(maxsize=1)
def base(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def scores(job):
    model = base(job["model"])
    if job["adapter"]:
        model = PeftModel.from_pretrained(model, job["adapter"]).eval()
    rows = [json.loads(line) for line in open(job["rows"])]
    chosen = range(len(rows)) if job["only"] is None else job["only"]
    sides = ("chosen_ids", "rejected_ids")
    found = [[logp(model, rows[row]["prompt_ids"], rows[row][side]) for side in sides] for row in chosen]
    if job["adapter"]:
        model.unload()  # leaves the base as it was
    return found


def moment_names(shapes):
    """The adapter's tensors in the order of the optimizer's file: by layer, linear, A before B."""
    layers = 1 + max(int(name.split(".layers.")[1].split(".")[0]) for name in shapes)
    for layer in range(layers):
        for linear in LINEARS:
            for half in "AB":
                yield f"base_model.model.model.layers.{layer}.{linear}.lora_{half}.weight"


def gradients(job):
    checkpoint = pathlib.Path(job["checkpoint"])
    theirs = load_file(job["trl"])
    shapes = {name: value.shape for name, value in load_file(checkpoint / "adapter_model.safetensors").items()}
    moments = load_file(checkpoint / "trueup" / "optimizer.safetensors")["first"].double()
    start = 0
    for name in moment_names(shapes):
        if name not in shapes:
            continue
        count = shapes[name].numel()
        ours, other = moments[start : start + count] / FIRST_MOMENT_SHARE, theirs.pop(name).double().flatten()
        start += count
        norms = ours.norm().item(), other.norm().item()
        yield {"name": name, "cosine": (ours @ other).item() / (norms[0] * norms[1]), "ours": norms[0], "trl": norms[1]}
    assert start == len(moments) and not theirs, f"{len(moments) - start} moments, {list(theirs)} left"


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    request = json.load(open(sys.argv[1], encoding="utf-8"))
    found = {"scores": [scores(job) for job in request["scores"]]}
    found["gradients"] = [list(gradients(job)) for job in request["gradients"]]
    print(json.dumps(found))
