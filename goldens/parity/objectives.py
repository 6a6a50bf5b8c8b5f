"""Computes losses with TRL's own DPOTrainer from log-probabilities that are given to it.

`python objectives.py REQUEST.json` reads

  {"model": folder of a tiny chat model, "batches": {name: plan}, "cases": [...]}

  plan   {"pairs": how many to make, "reach": how many nats their log-ratios may be from 0, about}
  cases  {"batch": a name, "settings": of DPOConfig, "is_f32": whether to compute in f32 and not in f64}

and prints {"loss_types", "batches", "answers"}: the names that TRL knows; the pairs of each batch, a
completion being three lists with a number a token ("policy", "reference", "squares": the log of the sum
of squared probabilities); for each case {"loss", "slopes": by each token's log-probability, "metrics"},
{"loss": null} where that is no number, or {"refused": why}. Each trainer is a real one, built from the settings; only what its two models return
is replaced.
"""
import json
import logging
import math
import random
import re
import sys
import tempfile
import types

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig
from trl_run import TOKEN_COLUMNS, Trainer

PROMPT = 3  # tokens in front of each completion
STEP = 1024  # log-probabilities are multiples of its inverse, so that f32 adds them without rounding
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins")


def rounded(value):
    return round(value * STEP) / STEP


def completion(generator, reach):
    """Log-probabilities of a completion whose log-ratio lies within `reach`."""
    count = generator.choice((1, 2, 3, 5, 8, 13, 21, 34))
    policy = [rounded(min(-generator.expovariate(0.5), -2 / STEP)) for _ in range(count)]
    shift = generator.uniform(-reach, reach) / count
    reference = [rounded(min(value - shift + generator.gauss(0, 0.1), -1 / STEP)) for value in policy]
    squares = [rounded(-generator.expovariate(0.5)) for _ in range(count)]
    return {"policy": policy, "reference": reference, "squares": squares}


def make_batch(name, plan):
    """Pairs; no two log-ratios of a side are the same, for torch sorts equal ones as it likes."""
    generator, sides = random.Random(name), ({}, {})
    for side in sides:
        while len(side) < plan["pairs"]:
            made = completion(generator, plan["reach"])
            side[sum(made["policy"]) - sum(made["reference"])] = made
    return [list(pair) for pair in zip(*(side.values() for side in sides))]


class Fixed:
    """A model that has made up its mind."""

    def __init__(self, **outputs):
        self.outputs = outputs

    def __call__(self, **_):
        return types.SimpleNamespace(**self.outputs)


def padded(batch, key, dtype):
    """A value for each position after the first, chosen completions before rejected ones; 0 where no completion is."""
    rows = [pair[side][key] for side in (0, 1) for pair in batch]
    width = PROMPT - 1 + max(len(row) for row in rows)
    return torch.tensor([[0.0] * (PROMPT - 1) + row + [0.0] * (width - PROMPT + 1 - len(row)) for row in rows], dtype=dtype)


class Trainers:
    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.models = [AutoModelForCausalLM.from_pretrained(folder) for _ in range(2)]
        self.rows = Dataset.from_list([{name: [1] for name in TOKEN_COLUMNS}])  # never looked at
        self.out = tempfile.mkdtemp()

    def make(self, settings):
        config = DPOConfig(output_dir=self.out, use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, **settings)
        model, reference = self.models
        trainer = Trainer(model=model, ref_model=reference, args=config, processing_class=self.tokenizer, train_dataset=self.rows)
        trainer.model.train()
        return trainer


def inputs(batch):
    """What a collator would make of rows of which only the lengths matter."""
    lengths = [len(pair[side]["policy"]) for side in (0, 1) for pair in batch]
    width = PROMPT + max(lengths)
    masks = [[0] * PROMPT + [1] * length + [0] * (width - PROMPT - length) for length in lengths]
    mask = torch.tensor(masks)
    return {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def answer(trainers, case, batch):
    dtype = torch.float32 if case["is_f32"] else torch.float64
    policy = padded(batch, "policy", dtype).requires_grad_()
    nothing = torch.zeros_like(policy)
    model = Fixed(
        log_probs=policy, log_sum_sq_probs=padded(batch, "squares", dtype),
        entropy=nothing, mean_logits=nothing, is_top1=nothing.bool(),
    )
    try:
        trainer = trainers.make(case["settings"])
        trainer.ref_model = Fixed(log_probs=padded(batch, "reference", dtype))
        loss = trainer.compute_loss(model, inputs(batch))
        slopes = torch.autograd.grad(loss, policy)[0].tolist()
    except (ValueError, RuntimeError) as error:
        return {"refused": str(error)}
    if not math.isfinite(loss.item()):
        return {"loss": None}
    own = lambda row, completion: row[PROMPT - 1 : PROMPT - 1 + len(completion["policy"])]
    pairs = zip(batch, slopes[: len(batch)], slopes[len(batch) :])
    return {
        "loss": loss.item(),
        "slopes": [[own(row, side) for row, side in zip(rows, pair)] for pair, *rows in pairs],
        "metrics": {name: trainer._metrics["train"][name][-1] for name in METRICS},
    }


def loss_types(trainers, batch):
    """The names in TRL's answer to one that it does not know."""
    refused = answer(trainers, {"settings": {"loss_type": ["unknown"]}, "is_f32": False}, batch)["refused"]
    return re.findall(r"'(\w+)'", refused)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    transformers.utils.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_default_dtype(torch.float64)  # TRL makes tensors of settings, too
    trainers = Trainers(request["model"])
    batches = {name: make_batch(name, plan) for name, plan in request["batches"].items()}
    names = loss_types(trainers, next(iter(batches.values())))
    answers = [answer(trainers, case, batches[case["batch"]]) for case in request["cases"]]
    print(json.dumps({"loss_types": names, "batches": batches, "answers": answers}))


if __name__ == "__main__":
    main()
