"""Loads what a run left behind with transformers and PEFT, and scores pairs with it.

`python check_weights.py SETTINGS.json TRL OURS`: SETTINGS as of trl_run.py, TRL its folder, OURS a run
folder. Prints one JSON object:
  checkpoints   per checkpoint its step, and the mean log-probabilities of the chosen and rejected
                completions of the next step's pairs: what the run must have seen in that step
  ours, trl     log-probabilities of all pairs under the weights at the end of both runs
"""
import json
import pathlib
import sys

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

from trl_run import DEFAULTS

settings = {**DEFAULTS, **json.load(open(sys.argv[1]))}
trl, ours = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(settings["threads"])
dtype = torch.bfloat16 if settings["precision"] == "bf16" else torch.float32
pairs = [json.loads(line) for line in open(trl / "tokens.jsonl")]


def load(folder):
    if settings["full"]:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    base = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=dtype)
    return PeftModel.from_pretrained(base, folder).eval()


@torch.no_grad()
def logp(model, prompt, completion):
    logits = model(torch.tensor([prompt + completion]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    picked = logits.float().log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)]
    return picked.sum().item()


def scores(model, rows):
    return [[logp(model, row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids")] for row in rows]


def step_rows():
    """The pairs of each optimizer step, in file order, a short last step at the end of each epoch."""
    size = settings["batch_size"] * settings["gradient_accumulation_steps"]
    epoch = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    while True:
        yield from epoch


def checkpoints():
    found = sorted((int(path.name.split("-")[1]), path) for path in ours.glob("checkpoint-*"))
    assert found, f"no checkpoint in {ours}"
    steps = step_rows()
    rows = [next(steps) for _ in range(found[-1][0] + 1)]
    for step, path in found:
        both = scores(load(path), rows[step])
        mean = [sum(side) / len(both) for side in zip(*both)]
        yield {"step": step, "logps/chosen": mean[0], "logps/rejected": mean[1]}


report = {"checkpoints": list(checkpoints()), "ours": scores(load(ours), pairs), "trl": scores(load(trl / "final"), pairs)}
print(json.dumps(report))
