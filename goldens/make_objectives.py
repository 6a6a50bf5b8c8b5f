"""Makes goldens/objectives/*.json: the equations of the papers, and what TRL computes.

Run as `cargo xtask goldens` with TRUEUP_ORACLE naming a virtual environment that holds
mpmath 1.3.0, torch 2.15.0 and trl 1.16.0.

`sigmoid.json`, `hinge.json` and `ipo.json` transcribe the papers in 50-digit arithmetic. Their
gradients come from numerical differentiation at 50 digits, so they share nothing with the closed
forms that they check. `trl.json` is a second source: TRL's own loss statements, run in f64 with
torch's autograd. Its DPO trainer ignores label smoothing, its CPO trainer does not: without a
reference of its own, CPO on policy minus reference is the smoothed DPO loss.
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
from trl.trainer.dpo_trainer import DPOTrainer

mp.mp.dps = 50
FOLDER = pathlib.Path(__file__).resolve().parent / "objectives"

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
}


def log_sigmoid(x):
    return -mp.log1p(mp.exp(-x))


def rewards(s, pc, pr, rc, rr):
    return s["beta"] * (pc - rc), s["beta"] * (pr - rr)


def sigmoid(s, pc, pr, rc, rr, tc, tr):
    """Eq. 7 of arXiv:2305.18290, smoothed as in Eq. 3 of the note on conservative DPO."""
    chosen, rejected = rewards(s, pc, pr, rc, rr)
    e = s["label_smoothing"]
    return -(1 - e) * log_sigmoid(chosen - rejected) - e * log_sigmoid(rejected - chosen)


def hinge(s, pc, pr, rc, rr, tc, tr):
    """The hinge loss of arXiv:2309.06657 (SLiC normalized by a reference), max(0, 1 - margin)."""
    chosen, rejected = rewards(s, pc, pr, rc, rr)
    return max(mp.mpf(0), 1 - (chosen - rejected))


def ipo(s, pc, pr, rc, rr, tc, tr):
    """Eq. 17 of arXiv:2310.12036 with per-token means."""
    return ((pc - rc) / tc - (pr - rr) / tr - 1 / (2 * mp.mpf(s["beta"]))) ** 2


SETTINGS = {
    sigmoid: [
        {"beta": 0.125, "label_smoothing": 0.0},
        {"beta": 0.5, "label_smoothing": 0.125},
        {"beta": 0.1, "label_smoothing": 0.3},
    ],
    hinge: [{"beta": 0.125}, {"beta": 0.1}, {"beta": 2.0}],
    ipo: [{"beta": 0.125}, {"beta": 0.1}, {"beta": 1.0}],
}


def completion(policy, reference, tokens):
    return {"policy_logp": policy, "reference_logp": reference, "token_count": tokens}


def write(name, source, cases):
    (FOLDER / f"{name}.json").write_text(json.dumps({"source": source, "cases": cases}, indent=1) + "\n")
    print(f"objectives/{name}: {len(cases)} cases")


def papers():
    for objective, settings in SETTINGS.items():
        loss_type, cases = objective.__name__, []
        for setting in settings:
            exact = {key: mp.mpf(value) for key, value in setting.items()}
            for name, (pc, pr, rc, rr, tc, tr) in PAIRS.items():
                rest = [mp.mpf(x) for x in (rc, rr, tc, tr)]
                at = lambda c, r: objective(exact, c, r, *rest)
                want = [at(mp.mpf(pc), mp.mpf(pr)), mp.diff(at, (pc, pr), (1, 0)), mp.diff(at, (pc, pr), (0, 1))]
                want += rewards(exact, mp.mpf(pc), mp.mpf(pr), *rest[:2])
                names = ["loss", "chosen_coefficient", "rejected_coefficient", "chosen_reward", "rejected_reward"]
                cases.append({
                    "name": name,
                    "objective": {"loss_type": loss_type, **setting},
                    "chosen": completion(pc, rc, tc),
                    "rejected": completion(pr, rr, tr),
                    "want": {key: float(value) for key, value in zip(names, want)},
                })
        write(loss_type, f"{objective.__doc__} mpmath {mp.__version__}, 50 digits.", cases)


def trl_statements():
    """The statements of TRL's DPO trainer from the log-ratios to the mean loss."""
    lines = inspect.getsource(DPOTrainer._compute_loss).split("\n")
    first = next(i for i, line in enumerate(lines) if "chosen_logratios = chosen_logps - ref_chosen_logps" in line)
    last = next(i for i, line in enumerate(lines) if i > first and "if self.aux_loss_enabled:" in line)
    return compile(textwrap.dedent("\n".join(lines[first:last])), "trl", "exec")


TRL_PAIRS = [
    (-10.0, -14.0, -11.0, -12.5, 5, 8),
    (-7.5, -6.0, -7.0, -6.5, 3, 2),
    (-25.5, -31.25, -24.75, -30.5, 17, 40),
    (-300.0, -2.0, -90.0, -20.0, 120, 1),
]


def trl_dpo(statements, setting, columns):
    lengths = torch.cat([columns[4], columns[5]]).long()
    mask = (torch.arange(int(lengths.max()))[None, :] < lengths[:, None]).long()
    trainer = types.SimpleNamespace(
        f_divergence_type="reverse_kl", beta=setting["beta"], label_smoothing=0.0,
        loss_types=[setting["loss_type"]], loss_weights=[1.0], use_weighting=False,
    )
    names = dict(
        self=trainer, chosen_logps=columns[0], rejected_logps=columns[1], ref_chosen_logps=columns[2],
        ref_rejected_logps=columns[3], completion_mask=mask, torch=torch, F=F, math=math,
    )
    exec(statements, names)
    return names["per_sequence_loss"]


def trl_cpo(setting, columns):
    trainer = types.SimpleNamespace(
        alpha=0.0, loss_type="sigmoid", beta=setting["beta"], label_smoothing=setting["label_smoothing"],
        accelerator=types.SimpleNamespace(device="cpu"),
    )
    return CPOTrainer.cpo_loss(trainer, columns[0] - columns[2], columns[1] - columns[3])[0]


def trl_values():
    statements, cases = trl_statements(), []
    settings = [{"loss_type": "sigmoid", "beta": beta, "label_smoothing": e} for beta in (0.1, 0.5) for e in (0.0, 0.1)]
    settings += [{"loss_type": loss_type, "beta": beta} for loss_type in ("hinge", "ipo") for beta in (0.1, 0.5)]
    for setting in settings:
        columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*TRL_PAIRS)]
        chosen, rejected = columns[0].requires_grad_(), columns[1].requires_grad_()
        losses = trl_cpo(setting, columns) if setting.get("label_smoothing") else trl_dpo(statements, setting, columns)
        losses.sum().backward()
        for row, (pc, pr, rc, rr, tc, tr) in enumerate(TRL_PAIRS):
            cases.append({
                "name": f"row {row + 1}",
                "objective": setting,
                "chosen": completion(pc, rc, tc),
                "rejected": completion(pr, rr, tr),
                "want": {
                    "loss": losses[row].item(),
                    "chosen_coefficient": chosen.grad[row].item(),
                    "rejected_coefficient": rejected.grad[row].item(),
                    "chosen_reward": setting["beta"] * (pc - rc),
                    "rejected_reward": setting["beta"] * (pr - rr),
                },
            })
    write("trl", f"the statements of trl {trl.__version__} DPOTrainer (smoothed: CPOTrainer), run in f64 by torch {torch.__version__.split('+')[0]}", cases)


papers()
trl_values()
