"""Reference values of schedules and of trainer_state.json, from transformers itself.

Run with a Python that has torch and transformers (tested with 5.23):
    python goldens/make_train.py
"""

import json
import pathlib

import torch
import transformers
from transformers.trainer_callback import TrainerControl, TrainerState

HERE = pathlib.Path(__file__).parent / "train"
PEAK = 5e-5


def rates(kind, warmup, total):
    """The rate of each step, before that step is taken."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=PEAK)
    scheduler = transformers.get_scheduler(
        kind, optimizer, num_warmup_steps=warmup, num_training_steps=total
    )
    seen = []
    for _ in range(total):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return seen


def schedules():
    cases = []
    for kind in ["constant", "constant_with_warmup", "linear", "cosine"]:
        for warmup, total in [(0, 7), (3, 10), (1, 1), (10, 4), (25, 100)]:
            if kind == "constant" and warmup:
                continue
            cases.append(
                {"kind": kind, "warmup": warmup, "total": total, "rates": rates(kind, warmup, total)}
            )
    ratios = []
    for ratio in [0.0, 0.03, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0]:
        for total in [1, 7, 10, 30, 100, 1563]:
            # A float below 1 is a ratio in transformers 5; 1.0 would be one step there.
            if ratio < 1:
                arguments = transformers.TrainingArguments(
                    output_dir="unused", warmup_steps=ratio, report_to="none", use_cpu=True
                )
                steps = arguments.get_warmup_steps(total)
                ratios.append({"ratio": ratio, "total": total, "warmup": steps})
    text = json.dumps({"peak": PEAK, "schedules": cases, "ratios": ratios})
    (HERE / "schedules.json").write_text(text + "\n")


def trainer_state():
    state = TrainerState(
        epoch=1 / 3, global_step=20, max_steps=60, logging_steps=10, eval_steps=20, save_steps=20,
        train_batch_size=4, num_train_epochs=1, num_input_tokens_seen=12345, total_flos=1.5e17,
        log_history=[
            {"loss": 0.6931471805599453, "learning_rate": 1e-6, "grad_norm": 12.0,
             "rewards/margins": -0.00025, "epoch": 1 / 6, "num_tokens": 4000.0, "step": 10},
            {"eval_loss": 0.1, "epoch": 1 / 3, "step": 20},
        ],
        best_metric=0.1, best_global_step=20, best_model_checkpoint="runs/a/checkpoint-20",
        stateful_callbacks=[TrainerControl(should_save=True)],
    )
    state.save_to_json(HERE / "trainer_state.json")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    schedules()
    trainer_state()
    print("transformers", transformers.__version__)
