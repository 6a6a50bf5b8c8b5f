"""Makes goldens/objectives/*.json: the equations of the papers, and what TRL computes.

Run as `cargo xtask goldens` with TRUEUP_ORACLE naming a virtual environment that holds
mpmath 1.3.0, torch 2.15.0 and trl 1.16.0.

One file a loss and one a modifier transcribe the papers in 200-digit arithmetic, in their textbook
form. Gradients come from numerical differentiation at 200 digits, so they share nothing with the
closed forms that they check. What no gradient flows into (weights, posteriors, places, means) is
computed once, before, and held. `trl.json` is a second source: TRL's own loss statements, run by
torch's autograd.
"""
import inspect
import json
import math
import pathlib
import textwrap
import types

import mpmath as mp
import torch
import torch.nn.functional as F
import trl
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

mp.mp.dps = 200
FOLDER = pathlib.Path(__file__).resolve().parent / "objectives"
STEP = mp.mpf(10) ** -60

# Policy chosen, policy rejected, reference chosen, reference rejected, tokens chosen, tokens rejected.
PAIRS = {
    "undecided": (-12.0, -12.0, -12.0, -12.0, 7, 7),
    "prefers_chosen": (-10.0, -30.0, -10.125, -20.25, 5, 9),
    "prefers_rejected": (-30.0, -10.0, -20.25, -10.125, 9, 5),
    "both_fall": (-40.5, -90.0, -30.0, -60.25, 16, 64),
    "both_rise": (-3.5, -6.0, -30.0, -60.25, 11, 3),
    "barely_apart": (-12.0, -12.0009765625, -12.0, -12.0, 8, 8),
    "saturated_right": (-1.0, -9000.0, -1.0, -1.0, 3, 3),
    "saturated_wrong": (-9000.0, -1.0, -1.0, -1.0, 3, 3),
    "one_token": (-0.25, -4.0, -0.5, -3.0, 1, 1),
    "one_against_many": (-0.25, -812.5, -0.5, -800.0, 1, 1024),
    "certain": (0.0, 0.0, 0.0, 0.0, 1, 1),
    "certain_of_one": (0.0, -20.0, -0.5, -18.0, 2, 6),
    "no_token": (-1.0, -2.5, -2.0, -1.75, 0, 0),
    "identical": (-33.25, -33.25, -31.0, -31.0, 12, 12),
}


# ---------------------------------------------------------------- textbook functions


def sigma(x):
    return 1 / (1 + mp.exp(-x))


def log_sigma(x):
    return -mp.log1p(mp.exp(-x))


def relu(x):
    return x if x > 0 else mp.mpf(0)


def power(u, k):
    """(e^(k u) - 1) / k, the exponent at most 80; u where k is 0."""
    if abs(k) < 1e-6:
        return u
    return mp.expm1(min(k * u, mp.mpf(80))) / k


def divergence(modifiers, u):
    kind = modifiers.get("f_divergence_type", "reverse_kl")
    if kind == "reverse_kl":
        return u
    if kind == "forward_kl":
        return power(u, mp.mpf(-1))
    if kind == "js_divergence":
        return mp.log(2) + log_sigma(u)
    return power(u, mp.mpf(modifiers["f_alpha_divergence_coef"]) - 1)


class Side:
    """A completion as the losses see it."""

    def __init__(self, modifiers, completion):
        tail = mp.mpf(modifiers.get("ld_alpha", 1))
        self.policy = completion["head"] + tail * completion["tail"]
        self.likelihood = completion["head"] + completion["tail"]
        self.reference = completion["reference_head"] + tail * completion["reference_tail"]
        self.tokens = max(1, completion["token_count"])
        self.ratio = self.policy - self.reference
        self.score = divergence(modifiers, self.ratio)
        self.mean = self.policy / self.tokens
        self.reward = completion["score"]


# ---------------------------------------------------------------- losses over a pair
# Each takes a term's settings, the objective's, both sides, and what came off the margin.


def sigmoid(t, s, c, r, shift=0):
    """Eq. 7 of arXiv:2305.18290, smoothed as in Eq. 3 of the note on conservative DPO."""
    x, e = s["beta"] * (c.score - r.score - shift), s["label_smoothing"]
    return -(1 - e) * log_sigma(x) - e * log_sigma(-x)


def robust(t, s, c, r, shift=0):
    """The loss of arXiv:2403.00409."""
    x, e = s["beta"] * (c.score - r.score), s["label_smoothing"]
    return (-(1 - e) * log_sigma(x) + e * log_sigma(-x)) / (1 - 2 * e)


def hinge(t, s, c, r, shift=0):
    """The hinge loss of arXiv:2309.06657 (SLiC normalized by a reference), max(0, 1 - margin)."""
    return relu(1 - s["beta"] * (c.score - r.score))


def ipo(t, s, c, r, shift=0):
    """Eq. 17 of arXiv:2310.12036 with per-token means."""
    return (c.score / c.tokens - r.score / r.tokens - 1 / (2 * s["beta"])) ** 2


def exo_pair(t, s, c, r, shift=0):
    """Eq. 16 of arXiv:2402.00856."""
    x, e = s["beta"] * (c.score - r.score), s["label_smoothing"]
    return sigma(x) * (log_sigma(x) - mp.log(1 - e)) + sigma(-x) * (log_sigma(-x) - mp.log(e))


def nca_pair(t, s, c, r, shift=0):
    """The pairwise loss of arXiv:2402.05369."""
    a, b = s["beta"] * c.ratio, s["beta"] * r.ratio
    return -log_sigma(a) - log_sigma(-a) / 2 - log_sigma(-b) / 2


def bco_pair(t, s, c, r, shift=0):
    """The loss of arXiv:2404.04656 on pairs; with a shift, the mean of all rewards so far."""
    d = t.get("mean", 0)
    return -log_sigma(s["beta"] * c.ratio - d) - log_sigma(-(s["beta"] * r.ratio - d))


def sppo_hard(t, s, c, r, shift=0):
    """Eq. 4.7 of arXiv:2405.00675 with hard labels."""
    half = 1 / (2 * s["beta"])
    return (c.ratio - half) ** 2 + (r.ratio + half) ** 2


def apo_zero(t, s, c, r, shift=0):
    """Eq. 7 of arXiv:2408.06266."""
    return 1 - sigma(s["beta"] * c.ratio) + sigma(s["beta"] * r.ratio)


def apo_down(t, s, c, r, shift=0):
    """Eq. 8 of arXiv:2408.06266."""
    return sigma(s["beta"] * c.ratio) + 1 - sigma(s["beta"] * (c.ratio - r.ratio))


def discopop(t, s, c, r, shift=0):
    """Eq. 5 of arXiv:2406.08414."""
    x = s["beta"] * (c.score - r.score)
    m = sigma(x / t["tau"])
    return -log_sigma(x) * (1 - m) + mp.exp(-x) * m


def sigmoid_norm(t, s, c, r, shift=0):
    """DPO on log-ratios per token, arXiv:2411.15124."""
    return -log_sigma(s["beta"] * (c.score / c.tokens - r.score / r.tokens))


def dpop(t, s, c, r, shift=0):
    """The loss of arXiv:2402.13228."""
    return -log_sigma(s["beta"] * (c.ratio - r.ratio - t["lambda"] * relu(c.reference - c.policy)))


def kl(a, log_a, log_rest, log_b, log_other):
    return a * (log_a - log_b) + (1 - a) * (log_rest - log_other)


def rpo(t, s, c, r, shift=0):
    """The distances of arXiv:2502.00203 between the margin and that of the rewards."""
    u = c.ratio - r.ratio
    x, y = s["beta"] * u, t["gt_reward_scale"] * (c.reward - r.reward)
    if t["distance"] == "bwd_kl":
        return kl(sigma(y), log_sigma(y), log_sigma(-y), log_sigma(x), log_sigma(-x))
    if t["distance"] == "fwd_kl":
        return kl(sigma(x), log_sigma(x), log_sigma(-x), log_sigma(y), log_sigma(-y))
    return (x - y) ** 2 if t["distance"] == "sq" else (u - 1 / (2 * s["beta"])) ** 2


def simpo(t, s, c, r, shift=0):
    """Eq. 6 of arXiv:2405.14734, shaped as in arXiv:2501.03884, with TRL's likelihood term."""
    x = s["beta"] * (power(c.mean, -t["alpha"]) - power(r.mean, -t["alpha"])) - t["gamma"]
    e = s["label_smoothing"]
    return -(1 - e) * log_sigma(x) - e * log_sigma(-x)


def cpo(t, s, c, r, shift=0):
    """Eq. 3 of arXiv:2401.08417, shaped as in arXiv:2501.03884, with a likelihood per token."""
    x = s["beta"] * (power(c.policy, -t["alpha"]) - power(r.policy, -t["alpha"]))
    e = s["label_smoothing"]
    return -(1 - e) * log_sigma(x) - e * log_sigma(-x)


def log_odds(side):
    mean = min(side.mean, -mp.mpf(1e-6))
    return mean - mp.log(-mp.expm1(mean))


def orpo(t, s, c, r, shift=0):
    """Eqs. 6 and 7 of arXiv:2403.07691, log-probabilities a token at most -1e-6."""
    return -s["beta"] * log_sigma(log_odds(c) - log_odds(r))


def repo(t, s, c, r, shift=0):
    """The max-margin loss of arXiv:2503.07426."""
    return relu(t["gamma"] - (c.mean - r.mean))


def repo_pp(t, s, c, r, shift=0):
    """The logistic loss of what arXiv:2503.07426 leaves of a margin."""
    return -log_sigma(-s["beta"] * relu(t["gamma"] - (c.mean - r.mean)))


def lmpo(t, s, c, r, shift=0):
    """arXiv:2502.14643 as its published code has it."""
    gap = s["beta"] * (c.mean - r.mean) - t["margins"][id(t["row"])]
    return -mp.log(1 / (1 + mp.exp(s["beta"] * t["gamma_beta_ratio"]) * mp.exp(-gap)))


LOCAL = [
    sigmoid, robust, hinge, ipo, exo_pair, nca_pair, bco_pair, sppo_hard, apo_zero, apo_down, discopop,
    sigmoid_norm, dpop, rpo, simpo, cpo, orpo, repo, repo_pp, lmpo,
]
FUNCTIONS = {function.__name__: function for function in LOCAL}
FREE = {"sft", "simpo", "cpo", "orpo", "lmpo", "repo", "repo_pp"}


# ---------------------------------------------------------------- losses over a call


def aot(t, s, pairs):
    """Paired alignment via optimal transport, arXiv:2406.05882; a pair pays for its policy's place."""
    mine, theirs = t["places"], sorted(pair[0].reference - pair[1].reference for pair in pairs)
    losses = [None] * len(pairs)
    for i, other in zip(mine, theirs):
        x, e = s["beta"] * (pairs[i][0].policy - pairs[i][1].policy - other), s["label_smoothing"]
        losses[i] = -(1 - e) * log_sigma(x) - e * log_sigma(-x)
    return losses


def aot_unpaired(t, s, pairs):
    """Unpaired alignment via optimal transport, arXiv:2406.05882; a pair pays for its chosen one's place."""
    losses = [None] * len(pairs)
    for i, other in zip(*t["places"]):
        x, e = s["beta"] * (pairs[i][0].ratio - pairs[other][1].ratio), s["label_smoothing"]
        losses[i] = -(1 - e) * log_sigma(x) - e * log_sigma(-x)
    return losses


def sft(t, s, pairs):
    """The mean over the chosen tokens of a call, TRL's statement."""
    tokens = sum(chosen.tokens for chosen, _ in pairs)
    return [-chosen.likelihood * len(pairs) / tokens for chosen, _ in pairs]


def kto(t, s, pairs):
    """Eq. 7 of arXiv:2402.01306; the divergence from mismatched completions."""
    losses = []
    for (side, _), wanted in zip(pairs, t["desirable"]):
        x = s["beta"] * (side.ratio - t["kl"])
        losses.append(t["desirable_weight"] * (1 - sigma(x)) if wanted else t["undesirable_weight"] * (1 - sigma(-x)))
    return losses


def apo_zero_unpaired(t, s, pairs):
    """The unpaired form of Eq. 7 of arXiv:2408.06266."""
    return kto({**t, "kl": mp.mpf(0)}, s, pairs)


CALLS = {f.__name__: f for f in [aot, aot_unpaired, sft, kto, apo_zero_unpaired]}


# ---------------------------------------------------------------- terms over a group


def logistic(x):
    return -log_sigma(x)


def taking_part(count, size):
    """Evenly spaced, ends included, halves up."""
    if count <= size:
        return list(range(count))
    return [int(mp.floor(mp.mpf(i * (count - 1)) / (size - 1) + mp.mpf(1) / 2)) for i in range(size)]


def group_term(gdpo, scores, ranks, labels, frozen):
    kind, everyone = gdpo["term"], range(len(scores))
    lower = [[j for j in everyone if ranks[i] < ranks[j]] for i in everyone]
    if kind == "listwise":
        factors = [mp.log(mp.exp(scores[i]) + sum(mp.exp(scores[j]) for j in lower[i])) - scores[i] for i in everyone if lower[i]]
        return sum(factors) / len(factors)
    if kind == "lambda":
        if labels[0] is None:
            labels = [mp.mpf(max(ranks) - rank) / (max(ranks) - min(ranks)) for rank in ranks]
        gain = [2 ** label - 1 for label in labels]
        by_score = sorted(everyone, key=lambda i: -frozen[i])
        discount = [mp.log(2 + by_score.index(i)) for i in everyone]
        return sum(
            abs(gain[i] - gain[j]) * abs(1 / discount[i] - 1 / discount[j]) * logistic(scores[i] - scores[j])
            for i in everyone for j in everyone if labels[i] > labels[j]
        )
    if kind == "pairs":
        losses = [logistic(scores[i] - scores[j]) for i in everyone for j in lower[i]]
        return sum(losses) / len(losses)
    against = [scores[0] - scores[j] for j in lower[0]]
    if kind == "pairwise_mean":
        return sum(logistic(x) for x in against) / len(against)
    return -mp.log(sum(sigma(x) for x in against) / len(against))


# ---------------------------------------------------------------- an objective


def reward(s, completion):
    side, terms = Side(s["modifiers"], completion), s["terms"]
    if any(term["loss_type"] not in FREE for term in terms):
        return s["beta"] * side.ratio
    tokens = 1 if terms[0]["loss_type"] == "cpo" else side.tokens
    return s["beta"] * power(side.policy / tokens, -mp.mpf(terms[0].get("alpha", 0)))


def ends(s, row):
    return Side(s["modifiers"], row["completions"][0]), Side(s["modifiers"], row["completions"][-1])


def shift(s, row):
    if "delta" not in s["modifiers"]:
        return 0
    c, r = row["completions"][0], row["completions"][-1]
    return s["modifiers"]["delta"] * (r["hallucinated"] - c["hallucinated"])


def pair_losses(s, rows, frozen, swap=False):
    """The weighted sum of the losses over pairs, without likelihoods."""
    pairs = [ends(s, row)[:: -1 if swap else 1] for row in rows]
    total = [mp.mpf(0)] * len(rows)
    for index, term in enumerate(s["terms"]):
        if term["loss_type"] == "sft":
            continue
        held = {**term, **frozen["terms"][index]}
        if term["loss_type"] in CALLS:
            losses = CALLS[term["loss_type"]](held, s, pairs)
        else:
            losses = [FUNCTIONS[term["loss_type"]]({**held, "row": row["key"]}, s, *pair, shift(s, row)) for row, pair in zip(rows, pairs)]
        total = [sum + term["weight"] * loss for sum, loss in zip(total, losses)]
    return total


def likelihoods(s, rows):
    pairs = [ends(s, row) for row in rows]
    weight = s["modifiers"].get("rpo_alpha", mp.mpf(0))
    weight += sum(term["weight"] * (1 if term["loss_type"] == "orpo" else term.get("cpo_alpha", 0)) for term in s["terms"])
    total = [-weight * chosen.likelihood / chosen.tokens for chosen, _ in pairs]
    for term in s["terms"]:
        if term["loss_type"] == "sft":
            total = [sum + term["weight"] * loss for sum, loss in zip(total, sft(term, s, pairs))]
    return total


def group_terms(s, rows, frozen):
    gdpo = s.get("gdpo")
    if not gdpo:
        return [mp.mpf(0)] * len(rows)
    if gdpo["term"] == "batch_variance":
        apart = [c.policy - r.policy for c, r in (ends(s, row) for row in rows)]
        mean = sum(apart) / len(apart)
        n = len(apart)
        return [mp.mpf(n) / (n - 1) * (x - mean) ** 2 if n > 1 else mp.mpf(0) for x in apart]
    terms = []
    for row, held in zip(rows, frozen["rewards"]):
        all = row["completions"]
        part = taking_part(len(all), gdpo["size"])
        scores = [reward(s, all[i]) for i in part]
        ranks = [i if all[i]["rank"] is None else all[i]["rank"] for i in part]
        terms.append(group_term(gdpo, scores, ranks, [all[i]["score"] for i in part], [held[i] for i in part]))
    return terms


def freeze(s, rows, before, epoch):
    """What no gradient flows into, and what is remembered afterwards."""
    after, modifiers = dict(before), s["modifiers"]
    frozen = {"terms": [], "rewards": [[reward(s, c) for c in row["completions"]] for row in rows]}
    pairs = [ends(s, row) for row in rows]
    for term in s["terms"]:
        held = {}
        places = lambda key: sorted(range(len(pairs)), key=key)
        if term["loss_type"] == "aot":
            held["places"] = places(lambda i: pairs[i][0].policy - pairs[i][1].policy)
        if term["loss_type"] == "aot_unpaired":
            held["places"] = places(lambda i: pairs[i][0].ratio), places(lambda i: pairs[i][1].ratio)
        if term.get("reward_shift"):
            rewards = [s["beta"] * side.ratio for pair in pairs for side in pair]
            count = before.get("bco/count", 0) + len(rewards)
            held["mean"] = (before.get("bco/count", 0) * before.get("bco/mean", 0) + sum(rewards)) / count
            after |= {"bco/count": count, "bco/mean": held["mean"]}
        if term["loss_type"] == "lmpo":
            margins = []
            for c, r in pairs:
                mean = mp.mpf(c.tokens + r.tokens) / 2
                p, q = mp.exp(c.mean * mean / c.tokens), mp.exp(r.mean * mean / r.tokens)
                margins.append((1 - p) * (1 - (p - q) ** 5) / 2)
            n, mean = len(margins), sum(margins) / len(margins)
            spread = mp.sqrt(sum((m - mean) ** 2 for m in margins) / (n - 1)) if n > 1 else mp.mpf(0)
            mix = lambda key, now: mp.mpf(9) / 10 * before[key] + mp.mpf(1) / 10 * now if key in before else now
            after["lmpo/mean"] = mix("lmpo/mean", mean)
            # The first spread sets the deviation, a call without one leaves it.
            known = before.get("lmpo/deviation")
            after["lmpo/deviation"] = mix("lmpo/deviation", spread) if spread and known else spread or known or spread
            average, deviation = after["lmpo/mean"], after["lmpo/deviation"]
            scaled = [(m - average) / deviation / 5 if deviation else mp.mpf(0) for m in margins]
            held["margins"] = {id(row["key"]): m for row, m in zip(rows, scaled)}
        if term["loss_type"] in ("kto", "apo_zero_unpaired"):
            held["desirable"] = [row["desirable"] for row in rows]
            known = [row["mismatched"][0] - row["mismatched"][1] for row in rows if row["mismatched"]]
            held["kl"] = relu(sum(known) / len(known)) if known else mp.mpf(0)
        frozen["terms"].append(held)
    frozen["weights"] = []
    for row, rewards in zip(rows, frozen["rewards"]):
        weight = mp.mpf(1)
        if modifiers.get("warmup_epochs"):
            weight *= min(mp.mpf(1), epoch / modifiers["warmup_epochs"])
        if modifiers.get("use_weighting"):
            weight *= mp.exp(row["completions"][0]["relative_logp"]) * mp.exp(row["completions"][-1]["relative_logp"])
        if "confidence_floor" in modifiers:
            share = mp.exp(rewards[0]) / sum(mp.exp(x) for x in rewards)
            weight *= max(share, modifiers["confidence_floor"])
        frozen["weights"].append(weight)
    if "reliability" in modifiers:
        right, wrong = pair_losses(s, rows, frozen), pair_losses(s, rows, frozen, swap=True)
        start, rate, by_whom = modifiers["reliability"], modifiers["reliability_rate"], {}
        frozen["posteriors"] = []
        for row, a, b in zip(rows, right, wrong):
            eta, p, rest = before.get("re_po/" + row["annotator"], start), sigma(b - a), sigma(a - b)
            frozen["posteriors"].append((p * eta / (p * eta + rest * (1 - eta)), rest * (1 - eta) / (p * eta + rest * (1 - eta))))
            by_whom.setdefault(row["annotator"], []).append(frozen["posteriors"][-1][0])
        for who, found in by_whom.items():
            key = "re_po/" + who
            after[key] = (1 - rate) * before.get(key, start) + rate * sum(found) / len(found)
    return frozen, after


def losses(s, rows, frozen):
    """Each row's whole loss."""
    pairs = pair_losses(s, rows, frozen)
    if "posteriors" in frozen:
        apart = [b - a for a, b in zip(pairs, pair_losses(s, rows, frozen, swap=True))]
        pairs = [-w * log_sigma(z) - rest * log_sigma(-z) for (w, rest), z in zip(frozen["posteriors"], apart)]
    share = s["gdpo"]["weight"] if s.get("gdpo") else 0
    terms, likely = group_terms(s, rows, frozen), likelihoods(s, rows)
    return [
        ((pair + share * term) * weight + nll) * row["weight"]
        for row, pair, term, weight, nll in zip(rows, pairs, terms, frozen["weights"], likely)
    ]


def slope(s, rows, frozen, completion, part):
    """The slope of the sum of all losses by the head or the tail of a completion."""
    at, values = completion[part], []
    for step in (STEP, -STEP):
        completion[part] = at + step
        values.append(sum(losses(s, rows, frozen)))
    completion[part] = at
    return (values[0] - values[1]) / (2 * STEP)


def exact(value):
    """A copy of JSON-like settings with exact numbers."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return mp.mpf(value) if isinstance(value, float) else value


def exact_row(group):
    completions = []
    for c in group["completions"]:
        get = lambda key: mp.mpf(c.get(key, 0.0))
        completions.append({
            "head": get("policy_logp") - get("policy_tail_logp"), "tail": get("policy_tail_logp"),
            "reference_head": get("reference_logp") - get("reference_tail_logp"), "reference_tail": get("reference_tail_logp"),
            "token_count": c["token_count"], "relative_logp": get("relative_logp"), "hallucinated": get("hallucinated"),
            "score": exact(c.get("score")), "rank": c.get("rank"),
        })
    return {
        "completions": completions, "weight": mp.mpf(group.get("weight", 1.0)), "annotator": group.get("annotator", ""),
        "desirable": group.get("desirable"), "mismatched": exact(group.get("mismatched")), "key": object(),
    }


def case(name, setting, groups, before=None, epoch=0.0):
    s, rows, before = exact(setting), [exact_row(group) for group in groups], before or {}
    s.setdefault("modifiers", {})
    frozen, after = freeze(s, rows, exact(before), mp.mpf(epoch))
    want = []
    for index, (row, loss) in enumerate(zip(rows, losses(s, rows, frozen))):
        parts = lambda part: [float(slope(s, rows, frozen, c, part)) for c in row["completions"]]
        one = {"loss": float(loss), "coefficients": parts("head"), "rewards": [float(x) for x in frozen["rewards"][index]]}
        if "ld_alpha" in s["modifiers"]:
            one["tail_coefficients"] = parts("tail")
        if "posteriors" in frozen:
            one["posterior"] = float(frozen["posteriors"][index][0])
        want.append(one)
    found = {"name": name, "objective": setting, "groups": groups, "want": want}
    if before:
        found["before"] = before
    if after:
        found["after"] = {key: float(value) for key, value in after.items()}
    if epoch:
        found["epoch"] = epoch
    return found


def completion(policy, reference, tokens, **more):
    return {"policy_logp": policy, "reference_logp": reference, "token_count": tokens, **more}


def pair(name, chosen=None, rejected=None, **more):
    pc, pr, rc, rr, tc, tr = PAIRS[name]
    return {"completions": [completion(pc, rc, tc, **(chosen or {})), completion(pr, rr, tr, **(rejected or {}))], **more}


def one(loss_type, beta=0.125, label_smoothing=0.0, modifiers=None, **params):
    found = {"beta": beta, "label_smoothing": label_smoothing, "terms": [{"loss_type": loss_type, "weight": 1.0, **params}]}
    return {**found, "modifiers": modifiers} if modifiers else found


def write(name, source, cases):
    text = json.dumps({"source": source, "cases": cases}, indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n")
    print(f"objectives/{name}: {len(cases)} cases")


# ---------------------------------------------------------------- which cases

PAIR_SETTINGS = {
    "sigmoid": [one("sigmoid"), one("sigmoid", 0.5, 0.125), one("sigmoid", 0.1, 0.3)],
    "robust": [one("robust"), one("robust", 0.5, 0.125), one("robust", 0.1, 0.3)],
    "hinge": [one("hinge"), one("hinge", 0.1), one("hinge", 2.0)],
    "ipo": [one("ipo"), one("ipo", 0.1), one("ipo", 1.0)],
    "exo_pair": [one("exo_pair", 0.125, 0.001), one("exo_pair", 0.5, 0.25)],
    "nca_pair": [one("nca_pair"), one("nca_pair", 0.5)],
    "bco_pair": [one("bco_pair", reward_shift=False), one("bco_pair", 0.5, reward_shift=False)],
    "sppo_hard": [one("sppo_hard"), one("sppo_hard", 0.5)],
    "apo_zero": [one("apo_zero"), one("apo_zero", 0.5)],
    "apo_down": [one("apo_down"), one("apo_down", 0.5)],
    "discopop": [one("discopop", tau=0.05), one("discopop", 0.5, tau=1.0)],
    "sigmoid_norm": [one("sigmoid_norm"), one("sigmoid_norm", 2.0)],
    "dpop": [one("dpop", **{"lambda": 50.0}), one("dpop", 0.5, **{"lambda": 0.25})],
    "rpo": [
        one("rpo", beta, distance=distance, gt_reward_scale=scale)
        for distance in ("bwd_kl", "fwd_kl", "sq", "ipo") for beta, scale in ((0.125, 1.0), (0.5, 3.0))
    ],
    "simpo": [
        one("simpo", 2.0, gamma=1.0, cpo_alpha=0.0, alpha=0.0), one("simpo", 0.1, 0.125, gamma=0.5, cpo_alpha=1.0, alpha=0.0),
        one("simpo", 2.5, gamma=0.25, cpo_alpha=0.5, alpha=0.25), one("simpo", 2.5, gamma=0.25, cpo_alpha=0.5, alpha=-0.25),
    ],
    "cpo": [
        one("cpo", 0.1, cpo_alpha=1.0, alpha=0.0), one("cpo", 0.5, 0.125, cpo_alpha=0.25, alpha=0.0),
        one("cpo", 0.1, cpo_alpha=0.0, alpha=0.0625), one("cpo", 0.1, cpo_alpha=0.0, alpha=-0.0625),
    ],
    "orpo": [one("orpo", 0.1), one("orpo", 0.5)],
    "repo": [one("repo", gamma=0.5), one("repo", gamma=1.25)],
    "repo_pp": [one("repo_pp", 2.0, gamma=0.5), one("repo_pp", 0.25, gamma=1.25)],
}
SCORED = ({"score": 7.5}, {"score": 5.25})


def source(function, what="mpmath"):
    return f"{function.__doc__} {what} {mp.__version__}, 200 digits."


def batch(*names, **more):
    return [pair(name, **more) for name in names]


def papers():
    extra = {
        "bco_pair": [
            case("first call", one("bco_pair", 0.5, reward_shift=True), batch("prefers_chosen", "both_fall")),
            case("later call", one("bco_pair", 0.5, reward_shift=True), batch("one_token", "undecided", "both_rise"), {"bco/count": 4.0, "bco/mean": -3.1875}),
        ],
    }
    for name, settings in PAIR_SETTINGS.items():
        more = SCORED if name == "rpo" else ()
        # The slopes of `apo_down` cancel to their rounding where the pair is barely apart.
        names = [found for found in PAIRS if (name, found) != ("apo_down", "barely_apart")]
        # There is no slope at the kink of `dpop`, where the chosen completion is as likely as it was.
        names = [found for found in names if name != "dpop" or PAIRS[found][0] != PAIRS[found][2]]
        cases = [case(found, s, [pair(found, *more)]) for s in settings for found in names]
        if name == "rpo":
            tie = ({"score": 2.0}, {"score": 2.0})
            far = ({"score": -400.0}, {"score": 500.0})
            cases += [case(what, s, [pair("both_fall", *scores)]) for s in settings for what, scores in (("tie", tie), ("far", far))]
        write(name, source(FUNCTIONS[name]), cases + extra.get(name, []))


SOME = ("prefers_rejected", "one_token", "both_fall", "prefers_chosen", "both_rise")
TIED = ("undecided", "certain", "undecided", "barely_apart", "identical")
FAR = ("saturated_right", "saturated_wrong", "one_token")


def calls():
    for name, settings in {
        "aot": [one("aot", 0.5), one("aot", 0.1, 0.125)],
        "aot_unpaired": [one("aot_unpaired", 0.5), one("aot_unpaired", 0.1, 0.125)],
        "sft": [one("sft"), {**one("sft"), "terms": [{"loss_type": "sigmoid", "weight": 1.0}, {"loss_type": "sft", "weight": 0.25}]}],
    }.items():
        cases = [case(what, s, batch(*names)) for s in settings for what, names in
                 (("five pairs", SOME), ("ties", TIED), ("far apart", FAR), ("one pair", SOME[:1]), ("no token", ("no_token", "one_token")))]
        write(name, source(CALLS[name]), cases)

    def unpaired(kl):
        rows = []
        for index, name in enumerate(("prefers_chosen", "both_fall", "both_rise", "saturated_wrong", "saturated_right", "certain")):
            row = pair(name)
            side = row["completions"][index % 2]
            more = {"mismatched": [side["policy_logp"] + kl + index / 8, side["policy_logp"] - index / 4]} if kl is not None else {}
            rows.append({"completions": [side], "desirable": index % 3 != 1, **more})
        return rows

    for name in ("kto", "apo_zero_unpaired"):
        weights = {"desirable_weight": 1.0, "undesirable_weight": 1.5}
        even = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
        divergences = {"apart": 1.5, "nearer than the reference": -40.0} if name == "kto" else {"none": None}
        cases = [case(what, one(name, beta, **w), unpaired(kl)) for what, kl in divergences.items() for beta, w in ((0.125, weights), (0.5, even))]
        cases.append(case("one row", one(name, 0.5, **even), unpaired(0.75 if name == "kto" else None)[:1]))
        write(name, source(CALLS[name]), cases)

    s = [one("lmpo", 2.0, gamma_beta_ratio=0.75), one("lmpo", 2.5, gamma_beta_ratio=0.5)]
    remembered = {"lmpo/mean": 0.25, "lmpo/deviation": 0.0625}
    cases = [case(what, setting, batch(*names), before) for setting in s for what, names, before in (
        ("first call", SOME, None), ("later call", SOME, remembered), ("one pair", SOME[1:2], None), ("one pair later", SOME[1:2], remembered),
        ("no spread later", ("undecided", "undecided"), remembered), ("far apart", FAR, remembered), ("certain", ("certain", "one_token"), None),
        ("alone, then not", SOME, {"lmpo/mean": 0.25, "lmpo/deviation": 0.0}))]
    write("lmpo", source(lmpo), cases)


def modifiers():
    both = lambda *terms: [{"loss_type": name, "weight": weight, **more} for name, weight, more in terms]
    kinds = [{"f_divergence_type": "forward_kl"}, {"f_divergence_type": "js_divergence"}]
    kinds += [{"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": a} for a in (0.5, 1.0, 2.0, 0.0)]
    smoothing = {"exo_pair": 0.25}
    losses_over = [("sigmoid", {}), ("hinge", {}), ("ipo", {}), ("exo_pair", {}), ("robust", {}), ("discopop", {"tau": 0.05}), ("sigmoid_norm", {})]
    cases = [case(found, one(name, 0.25, smoothing.get(name, 0.0), kind, **more), [pair(found)]) for name, more in losses_over for kind in kinds for found in PAIRS
             if name == "sigmoid" or found in ("both_fall", "both_rise", "one_token", "saturated_wrong")]
    write("f_divergence", f"The derivatives of the divergences of arXiv:2309.16240 in place of the log-ratio, exponents at most 80. mpmath {mp.__version__}, 200 digits.", cases)

    labels = lambda h_w, h_l: ({"hallucinated": h_w}, {"hallucinated": h_l})
    cases = [case(f"{found} {h}", one("sigmoid", 0.1, e, {"delta": delta}), [pair(found, *labels(*h))])
             for found in ("undecided", "both_fall", "both_rise", "saturated_wrong", "saturated_right") for h in ((0.0, 1.0), (0.0, 0.0), (1.0, 1.0)) for delta, e in ((0.0, 0.0), (10.0, 0.0), (100.0, 0.0), (10.0, 0.125))]
    write("delta", f"The margin of arXiv:2601.03027, shifted inside beta. mpmath {mp.__version__}, 200 digits.", cases)

    def tailed(found):
        group = pair(found)
        long = group["completions"][0 if group["completions"][0]["token_count"] > group["completions"][1]["token_count"] else 1]
        long |= {"policy_tail_logp": long["policy_logp"] / 4 - 0.5, "reference_tail_logp": long["reference_logp"] / 8 - 0.25}
        return group
    cases = [case(found, one(name, 0.25, smoothing.get(name, 0.0), {"ld_alpha": alpha, **more}, **params), [tailed(found)])
             for found in ("both_fall", "both_rise", "one_against_many", "prefers_rejected") for alpha in (0.0, 0.5, 1.0)
             for name, more, params in (("sigmoid", {}, {}), ("ipo", {}, {}), ("sigmoid", {"rpo_alpha": 0.5}, {}), ("sft", {}, {}), ("dpop", {}, {"lambda": 5.0}), ("sigmoid", {"f_divergence_type": "js_divergence"}, {}))]
    write("ld_alpha", f"The weights of arXiv:2409.06411, for policy and reference. mpmath {mp.__version__}, 200 digits.", cases)

    weigh = lambda a, b: ({"relative_logp": a}, {"relative_logp": b})
    cases = [case(found, one(name, 0.25, 0.0, {"use_weighting": True, **more}), [pair(found, *weigh(a, b), weight=weight)])
             for found in ("both_fall", "saturated_wrong", "certain") for name, more in (("sigmoid", {}), ("ipo", {"rpo_alpha": 0.5})) for a, b, weight in ((-0.5, -1.75, 1.0), (0.25, -900.0, 1.0), (0.0, 0.0, 0.5))]
    write("use_weighting", f"Eq. 2 of arXiv:2406.11827 as a weight without gradient. mpmath {mp.__version__}, 200 digits.", cases)

    cases = [case(found, one(name, 0.25, 0.0, {"rpo_alpha": alpha}), [pair(found, weight=weight)])
             for found in PAIRS for name, alpha, weight in (("sigmoid", 1.0, 1.0), ("hinge", 0.25, 1.0), ("apo_zero", 0.5, 0.25))]
    mixed = {"beta": 0.25, "label_smoothing": 0.125, "terms": both(("sigmoid", 0.75, {}), ("bco_pair", 0.5, {"reward_shift": False}), ("sft", 0.25, {}), ("simpo", 0.5, {"gamma": 0.5, "cpo_alpha": 0.5, "alpha": 0.0}), ("orpo", 0.125, {}))}
    cases.append(case("five terms", mixed, batch(*SOME)))
    cases.append(case("five terms and a sixth", {**mixed, "modifiers": {"rpo_alpha": 0.5}}, batch(*SOME)))
    write("rpo_alpha", f"Eq. 1 of arXiv:2404.19733, with sums of weighted losses. mpmath {mp.__version__}, 200 digits.", cases)

    listed = [completion(p, r, t) for p, r, t in ((-20.0, -24.0, 9), (-31.5, -30.0, 12), (-18.25, -19.0, 4))]
    sure = lambda floor, **more: {"confidence_floor": floor, **more}
    cases = [case(found, one(name, 0.25, 0.0, sure(floor), **params), [pair(found, weight=2.0)]) for found in PAIRS for floor in (0.2, 0.75)
             for name, params in (("sigmoid", {}), ("repo", {"gamma": 0.5}))]
    pairs = {"gdpo": {"size": 3, "weight": 0.5, "term": "pairs"}}
    cases += [case("three", {**one("sigmoid", 0.25, 0.0, sure(0.2)), **pairs}, [{"completions": order}]) for order in (listed, listed[::-1])]
    cases += [case(f"epoch {epoch}", one("sigmoid", 0.25, 0.0, {"warmup_epochs": 1.25, "rpo_alpha": 0.5}), batch(*SOME), None, epoch) for epoch in (0.125, 0.75, 1.25, 2.0)]
    write("confidence", f"The policy's probability of the best, at least a floor, as a weight without gradient, and a linear warm-up. mpmath {mp.__version__}, 200 digits.", cases)

    by = lambda *names: [pair(found, annotator=who, weight=weight) for found, who, weight in zip(SOME, names, (1.0, 1.0, 0.5, 1.0, 2.0))]
    believe = lambda eta, rate, **more: {"reliability": eta, "reliability_rate": rate, **more}
    known = {"re_po/ada": 0.75, "re_po/": 0.5}
    cases = [case(what, one(name, beta, 0.0, believe(0.9, 0.1), **params), groups, before)
             for what, groups, before in (("one annotator", batch(*SOME), None), ("three", by("ada", "", "bo", "ada", "bo"), None), ("three later", by("ada", "", "bo", "ada", "bo"), known), ("far apart", batch(*FAR), None))
             for name, beta, params in (("sigmoid", 0.25, {}), ("hinge", 0.25, {}), ("simpo", 2.0, {"gamma": 0.5, "cpo_alpha": 0.0, "alpha": 0.0}), ("ipo", 0.5, {}), ("apo_down", 0.25, {}))]
    cases.append(case("beside others", {"beta": 0.25, "label_smoothing": 0.125, "terms": both(("sigmoid", 0.75, {}), ("nca_pair", 0.5, {})), "modifiers": believe(0.8, 0.5, rpo_alpha=0.5)}, by("ada", "ada", "bo", "bo", ""), known))
    write("re_po", f"Posterior, loss and update of arXiv:2509.24159. mpmath {mp.__version__}, 200 digits.", cases)


def groups():
    rows = ((-20.0, -24.0, 9), (-31.5, -30.0, 12), (-18.25, -19.0, 4), (-44.0, -40.0, 30), (-12.0, -12.5, 3), (-26.0, -19.5, 11), (-60.0, -55.0, 40))
    plain = [completion(p, r, t) for p, r, t in rows]
    ranked = lambda *ranks: [{**c, "rank": rank} for c, rank in zip(plain, ranks)]
    labelled = lambda *labels: [{**c, "score": label} for c, label in zip(plain, labels)]
    far = [completion(p, -1.0, 3) for p in (-9000.0, -1.0, -4000.0)]
    shapes = {
        "two": plain[:2], "three": plain[:3], "five of five": plain[:5], "seven": plain, "far apart": far, "far apart, right": far[1:] + far[:1],
        "tie at the top": ranked(0, 0, 1, 2), "tie at the end": ranked(1, 2, 3, 3, 3), "ties between": ranked(0, 2, 2, 4, 4, 5), "identical": [plain[0], plain[0], plain[0]],
    }
    around = lambda term, size, weight, loss="sigmoid", beta=0.25, more=None, **params: {**one(loss, beta, 0.0, more, **params), "gdpo": {"size": size, "weight": weight, "term": term}}
    cases = []
    for term in ("listwise", "lambda", "pairs", "pairwise_mean", "epo"):
        for what, completions in shapes.items():
            if what == "identical" and term == "lambda":
                continue
            cases.append(case(f"{term}, {what}", around(term, 5, 0.5), [{"completions": completions}]))
        for size in (2, 3, 4, 6):
            cases.append(case(f"{term}, {size} of seven", around(term, size, 1.5, "hinge"), [{"completions": plain, "weight": 0.5}]))
        simple = {"gamma": 0.5, "cpo_alpha": 0.25, "alpha": 0.0}
        cases.append(case(f"{term}, no reference", around(term, 4, 0.5, "simpo", 2.0, **simple), [{"completions": plain[:4]}]))
        cases.append(case(f"{term}, sums without reference", around(term, 4, 0.5, "cpo", 0.25, cpo_alpha=0.25, alpha=0.03125), [{"completions": plain[:4]}]))
        cases.append(case(f"{term}, weighted", around(term, 4, 0.5, more={"confidence_floor": 0.25, "rpo_alpha": 0.5}), [{"completions": plain[:4]}, {"completions": plain[2:5]}]))
    tails = [{**c, "policy_tail_logp": c["policy_logp"] / 4, "reference_tail_logp": c["reference_logp"] / 2} for c in plain[:3]]
    cases += [case(f"{term}, tails", around(term, 4, 0.5, more={"ld_alpha": 0.25, "rpo_alpha": 0.5}), [{"completions": tails}]) for term in ("listwise", "epo")]
    factual = [{**c, "hallucinated": h} for c, h in zip(plain, (0.0, 0.0, 1.0))]
    cases.append(case("listwise, factual", around("listwise", 4, 0.5, more={"delta": 10.0}), [{"completions": factual}]))
    cases += [case(f"pairs, {name}", around("pairs", 4, 0.5, name, 0.5, **more), [{"completions": plain[:4]}]) for name, more in (("orpo", {}), ("repo", {"gamma": 0.5}), ("sft", {}), ("ipo", {}))]
    labels = {"three labels": (1.0, 0.5, 0.0), "tied labels": (0.75, 0.75, 0.25, 0.0), "close labels": (0.5625, 0.5, 0.4375)}
    cases += [case(f"lambda, {what}", around("lambda", 5, 1.0), [{"completions": labelled(*found)}]) for what, found in labels.items()]
    for names in (SOME, SOME[:1], FAR, ("undecided", "undecided")):
        cases.append(case(f"batch_variance, {len(names)} pairs", around("batch_variance", 2, 0.5), batch(*names)))
    write("gdpo", f"Appendix A.3 of arXiv:2305.18290 over its factors, arXiv:2402.01878, logistic losses over pairs, and a variance over n - 1, beside the pair's loss. mpmath {mp.__version__}, 200 digits.", cases)


# ---------------------------------------------------------------- TRL

TRL_PAIRS = [
    (-10.0, -14.0, -11.0, -12.5, 5, 8),
    (-7.5, -6.0, -7.0, -6.5, 3, 2),
    (-25.5, -31.25, -24.75, -30.5, 17, 40),
    (-300.0, -2.0, -90.0, -20.0, 120, 1),
]


def statements(function, first, last):
    """The statements of a function from a line that holds `first` to one that holds `last`."""
    lines = inspect.getsource(function).split("\n")
    start = next(i for i, line in enumerate(lines) if first in line)
    end = next(i for i, line in enumerate(lines) if i > start and last in line)
    return compile(textwrap.dedent("\n".join(lines[start:end])), "trl", "exec")


def trl_dpo(code, setting, columns):
    """The losses of DPOTrainer; each logp is spread evenly over its tokens."""
    term, modifiers = setting["terms"][0], setting.get("modifiers", {})
    lengths = torch.cat([columns[4], columns[5]]).long()
    mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
    trainer = types.SimpleNamespace(
        f_divergence_type=modifiers.get("f_divergence_type", "reverse_kl"), f_alpha_divergence_coef=modifiers.get("f_alpha_divergence_coef"),
        beta=setting["beta"], label_smoothing=setting["label_smoothing"], loss_types=[term["loss_type"]], loss_weights=[1.0],
        use_weighting=modifiers.get("use_weighting", False), args=types.SimpleNamespace(discopop_tau=term.get("tau")),
    )
    per_token = torch.cat([columns[0], columns[1]])[:, None] / lengths[:, None] * mask
    # The mean over a completion of logp - log_sum_sq_probs is -0.5 for the chosen, -0.25 for the rejected.
    relative = torch.cat([torch.full_like(columns[0], -0.5), torch.full_like(columns[1], -0.25)])
    outputs = types.SimpleNamespace(log_sum_sq_probs=per_token.detach() - relative[:, None])
    names = dict(
        self=trainer, chosen_logps=columns[0], rejected_logps=columns[1], ref_chosen_logps=columns[2], ref_rejected_logps=columns[3],
        completion_mask=mask, shift_completion_mask=mask, per_token_logps=per_token, outputs=outputs, seq_len=mask.shape[1],
        device="cpu", torch=torch, F=F, math=math,
    )
    exec(code, names)
    return names["per_sequence_loss"]


def trl_cpo(setting, columns):
    term = setting["terms"][0]
    trainer = types.SimpleNamespace(
        alpha=term.get("alpha", 0.0), loss_type={"cpo": "sigmoid"}.get(term["loss_type"], term["loss_type"]), beta=setting["beta"], simpo_gamma=term.get("gamma"),
        label_smoothing=setting["label_smoothing"], accelerator=types.SimpleNamespace(device="cpu"),
    )
    if term["loss_type"] == "sigmoid":
        return CPOTrainer.cpo_loss(trainer, columns[0] - columns[2], columns[1] - columns[3])[0]
    lengths = (columns[4], columns[5]) if term["loss_type"] == "simpo" else (1, 1)
    return CPOTrainer.cpo_loss(trainer, columns[0] / lengths[0], columns[1] / lengths[1])[0]


def trl_orpo(setting, columns):
    """The odds term, and the likelihood a token of each row by itself."""
    trainer = types.SimpleNamespace(beta=setting["beta"], accelerator=types.SimpleNamespace(device="cpu"))
    chosen, rejected = columns[0] / columns[4], columns[1] / columns[5]
    return -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0] - chosen


def trl_kto(code, setting, columns, divergence):
    """Chosen ones are desirable, rejected ones are not."""
    term = setting["terms"][0]
    trainer = types.SimpleNamespace(loss_type=term["loss_type"], beta=setting["beta"], desirable_weight=term["desirable_weight"],
                                    undesirable_weight=term["undesirable_weight"], accelerator=types.SimpleNamespace(device="cpu"))
    names = dict(self=trainer, chosen_logps=columns[0], rejected_logps=columns[1], ref_chosen_logps=columns[2], ref_rejected_logps=columns[3],
                 kl=torch.tensor(divergence, dtype=torch.float64), torch=torch, F=F)
    exec(code, names)
    return names["losses"]


def trl_values():
    dpo = statements(DPOTrainer._compute_loss, "chosen_logratios = chosen_logps - ref_chosen_logps", "if self.aux_loss_enabled:")
    kto_code = statements(KTOTrainer._compute_loss, "# Chosen losses", 'self._metrics[mode]["kl"]')
    run_dpo, cases = lambda s, c: trl_dpo(dpo, s, c), []
    settings = [(run_dpo, one(name, beta, e, **more)) for beta in (0.1, 0.5) for name, e, more in (
        ("sigmoid", 0.0, {}), ("hinge", 0.0, {}), ("ipo", 0.0, {}), ("exo_pair", 0.1, {}), ("nca_pair", 0.0, {}), ("robust", 0.1, {}),
        ("bco_pair", 0.0, {"reward_shift": False}), ("sppo_hard", 0.0, {}), ("aot", 0.0, {}), ("aot", 0.1, {}), ("aot_unpaired", 0.0, {}),
        ("aot_unpaired", 0.1, {}), ("apo_zero", 0.0, {}), ("apo_down", 0.0, {}), ("discopop", 0.0, {"tau": 0.05}), ("sft", 0.0, {}), ("sigmoid_norm", 0.0, {}))]
    settings += [(trl_cpo, one("sigmoid", beta, 0.1)) for beta in (0.1, 0.5)]
    kinds = [{"f_divergence_type": "forward_kl"}, {"f_divergence_type": "js_divergence"}]
    settings += [(run_dpo, one(name, 0.1, 0.0, kind)) for name in ("sigmoid", "ipo", "sigmoid_norm") for kind in kinds]
    alpha = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5}
    settings += [(run_dpo, one("sigmoid", 0.1, 0.0, alpha)), (run_dpo, one("sigmoid", 0.1, 0.0, {"use_weighting": True}))]
    settings += [(trl_cpo, one("simpo", beta, e, gamma=gamma, cpo_alpha=0.0, alpha=a)) for beta, gamma, e, a in ((0.1, 0.5, 0.0, 0.0), (2.0, 1.0, 0.1, 0.0), (2.0, 1.0, 0.0, 0.25))]
    settings += [(trl_cpo, one("cpo", 0.1, e, cpo_alpha=0.0, alpha=0.0)) for e in (0.0, 0.1)]
    settings += [(trl_orpo, one("orpo", beta)) for beta in (0.1, 0.5)]
    for run, setting in settings:
        kind = setting.get("modifiers", {}).get("f_divergence_type")
        # TRL's alpha divergence knows no f64, and its exponents leave f32's range for the last pair.
        rows, dtype = (TRL_PAIRS[:3], torch.float32) if kind == "alpha_divergence" else (TRL_PAIRS, torch.float64)
        # Its forward divergence has no bound on the exponent, its exo_pair rounds the smoothing to f32.
        rough = kind == "forward_kl" or setting["terms"][0]["loss_type"] == "exo_pair"
        rows = TRL_PAIRS[:3] if rough else rows
        columns = [torch.tensor(column, dtype=dtype) for column in zip(*rows)]
        chosen, rejected = columns[0].requires_grad_(), columns[1].requires_grad_()
        found = run(setting, columns)
        found.sum().backward()
        groups = [{"completions": [completion(pc, rc, tc, relative_logp=-0.5), completion(pr, rr, tr, relative_logp=-0.25)]} for pc, pr, rc, rr, tc, tr in rows]
        want = [{"coefficients": [chosen.grad[row].item(), (rejected.grad[row].item() if rejected.grad is not None else 0.0)]} for row in range(len(rows))]
        name = setting["terms"][0]["loss_type"]
        if name not in ("aot", "aot_unpaired", "sft"):
            for row, one_row in enumerate(want):
                one_row["loss"] = found[row].item()
        cases.append({"name": f"{name} {len(cases)}", "objective": setting, "groups": groups, "want": want, "total": found.sum().item()})
    for name in ("kto", "apo_zero_unpaired"):
        for beta, divergence in ((0.1, 0.75), (0.5, 0.0)):
            setting = one(name, beta, desirable_weight=1.0, undesirable_weight=1.5)
            columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*TRL_PAIRS)]
            chosen, rejected = columns[0].requires_grad_(), columns[1].requires_grad_()
            found = trl_kto(kto_code, setting, columns, divergence)
            found.sum().backward()
            groups = [{"completions": [completion(p[side], p[2 + side], p[4 + side])], "desirable": side == 0, "mismatched": [divergence - 20.0, -20.0]} for side in (0, 1) for p in TRL_PAIRS]
            slopes = torch.cat([chosen.grad, rejected.grad]).tolist()
            want = [{"loss": loss, "coefficients": [slope]} for loss, slope in zip(found.tolist(), slopes)]
            cases.append({"name": f"{name} {len(cases)}", "objective": setting, "groups": groups, "want": want, "total": found.sum().item()})
    write("trl", f"the statements of trl {trl.__version__} DPOTrainer, CPOTrainer (smoothed sigmoid, simpo, cpo), ORPOTrainer and KTOTrainer, run by torch {torch.__version__.split('+')[0]}", cases)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    papers()
    calls()
    modifiers()
    groups()
    trl_values()
