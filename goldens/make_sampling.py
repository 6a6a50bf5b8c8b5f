"""Makes goldens/model/sampling.json: what transformers leaves of logits before it draws.

Run as `cargo xtask goldens` with TRUEUP_ORACLE naming a virtual environment that holds
torch 2.15.0 and transformers 5.23.0.

Nothing here is random: logits come from a small integer recurrence.
"""
import itertools
import json
import pathlib

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

OUT = pathlib.Path(__file__).resolve().parent / "model" / "sampling.json"


def logits(count, seed):
    """Values from -6 to 6, all different."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state / 2**31 * 12 - 6)
    return torch.tensor([out], dtype=torch.float32)


def case(scores, seen, penalty, temperature, top_k, top_p, min_p):
    chain = LogitsProcessorList()
    if penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(penalty))
    chain.append(TemperatureLogitsWarper(temperature))
    if top_k:
        chain.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        chain.append(TopPLogitsWarper(top_p))
    if min_p > 0.0:
        chain.append(MinPLogitsWarper(min_p))
    left = chain(torch.tensor([seen]), scores.clone())[0]
    probabilities = torch.softmax(left.double(), -1)
    kept = [index for index in range(len(left)) if left[index] != -float("inf")]
    return {
        "logits": scores[0].tolist(),
        "seen": seen,
        "repetition_penalty": penalty,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "kept": kept,
        "probabilities": [float(probabilities[index]) for index in kept],
    }


def main():
    settings = itertools.product((1.0, 1.3), (0.7, 1.5), (0, 5), (1.0, 0.8), (0.0, 0.1))
    cases = [
        case(logits(24, 7 + number), [2, 3, 11, 3], *setting) for number, setting in enumerate(settings)
    ]
    OUT.write_text(json.dumps(cases, indent=1) + "\n")


main()
