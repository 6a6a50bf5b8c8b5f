"""Runs TRL's DPOTrainer on a CPU from JSON files of settings, and keeps all that a comparison needs.

`python trl_run.py SETTINGS.json OUT [SETTINGS.json OUT ...]` writes into each OUT:
  tokens.jsonl   token ids of every pair in the order trained, cut at `max_length` as TRL cuts them
  initial/       the adapter at the start, as PEFT saves it (B is random: a zero B hides dLoss/dA)
  final/         the adapter, or in full fine-tuning the whole model, at the end
  gradients.safetensors  with `save_gradients`, the clipped gradient of the first step
  steps.json     settings, versions, and TRL's metrics of every optimizer step; written last

Settings carry the recipe's names; `DEFAULTS` lists them all. Rows are conversational, plain strings,
or already token ids (`prompt_ids`, `chosen_ids`, `rejected_ids`).
"""
import json
import pathlib
import resource
import sys
import tempfile
import time

import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

DEFAULTS = {
    "model": None,
    "adapter": None,  # a PEFT folder to start from, else a fresh one with a random B
    "reference": "base",  # `base`: the weights without an adapter; `adapter`: a frozen copy of the first adapter
    "full": False,  # full fine-tuning against a second copy of the model
    "data": None,
    "pairs": None,  # the first so many rows; None: all
    "max_length": 1024,
    "beta": 0.1,
    "loss_type": "sigmoid",
    "lora_r": 16,
    "lora_alpha": 32,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_epochs": 1,
    "max_steps": -1,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "sync_ref_model": False,
    "ref_model_mixup_alpha": 0.6,
    "ref_model_sync_steps": 512,
    "seed": 42,
    "precision": "f32",  # of the weights: `f32`, `bf16`, or `f64` to see how far f32 strays; `autocast`: f32 under bf16
    "gradient_checkpointing": False,
    "precompute_ref_log_probs": False,
    "threads": 2,
    "initial_b": 0.02,  # standard deviation of a fresh adapter's B
    "save_gradients": False,
}
DTYPES = {"f32": torch.float32, "autocast": torch.float32, "bf16": torch.bfloat16, "f64": torch.float64}
TOKEN_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
SKIPPED_METRICS = ("step", "total_flos", "train_")


class Trainer(DPOTrainer):
    """TRL's trainer; rows that are token ids already go through untouched."""

    def _prepare_dataset(self, dataset, processing_class, args, dataset_name):
        if set(TOKEN_COLUMNS) <= set(dataset.column_names):
            return dataset
        return super()._prepare_dataset(dataset, processing_class, args, dataset_name)


class Gradients(TrainerCallback):
    """Keeps the gradient that the first optimizer step uses."""

    def __init__(self, path):
        self.path = path

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
            save_file({name.replace(".default.", "."): grad.contiguous() for name, grad in found.items()}, self.path)


def read_rows(settings):
    rows = [json.loads(line) for line in open(settings["data"], encoding="utf-8") if line.strip()]
    keys = TOKEN_COLUMNS if TOKEN_COLUMNS[0] in rows[0] else ("prompt", "chosen", "rejected")
    return Dataset.from_list([{key: row[key] for key in keys} for row in rows[: settings["pairs"]]])


def trainer_config(settings):
    return DPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=settings["precision"] == "autocast", report_to=[], save_strategy="no",
        logging_steps=1, disable_tqdm=True, train_sampling_strategy="sequential",
        gradient_checkpointing=settings["gradient_checkpointing"],
        precompute_ref_log_probs=settings["precompute_ref_log_probs"],
        logging_nan_inf_filter=False, seed=settings["seed"], max_length=settings["max_length"],
        beta=settings["beta"], loss_type=[settings["loss_type"]], learning_rate=settings["learning_rate"],
        lr_scheduler_type=settings["lr_scheduler_type"], warmup_steps=float(settings["warmup_ratio"]),
        per_device_train_batch_size=settings["batch_size"], max_steps=settings["max_steps"],
        gradient_accumulation_steps=settings["gradient_accumulation_steps"],
        num_train_epochs=settings["num_epochs"], weight_decay=settings["weight_decay"],
        max_grad_norm=settings["max_grad_norm"], sync_ref_model=settings["sync_ref_model"],
        ref_model_mixup_alpha=settings["ref_model_mixup_alpha"], ref_model_sync_steps=settings["ref_model_sync_steps"],
    )


def build(settings):
    """The trainer at its starting point."""
    dtype = DTYPES[settings["precision"]]

    def load():
        model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=dtype)
        # torch gives the embedding of the padding token no gradient; where that is the end token too, as in
        # SmolLM2, it would miss the one from the prompts.
        model.get_input_embeddings().padding_idx = None
        return model

    model, lora = load(), None
    arguments = {"args": trainer_config(settings), "train_dataset": read_rows(settings)}
    if settings["full"]:
        arguments["ref_model"] = load()
    elif settings["adapter"] and settings["reference"] == "adapter":
        model = PeftModel.from_pretrained(model, settings["adapter"], is_trainable=True)
    elif settings["adapter"]:
        lora = LoraConfig.from_pretrained(settings["adapter"])
        lora.inference_mode = False
    else:
        lora = LoraConfig(
            r=settings["lora_r"], lora_alpha=settings["lora_alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    trainer = Trainer(model=model, processing_class=tokenizer, peft_config=lora, **arguments)
    if lora is not None and settings["adapter"]:
        weights = peft.load_peft_weights(settings["adapter"], device="cpu")
        peft.set_peft_model_state_dict(trainer.model, weights)
    elif lora is not None:
        generator = torch.Generator().manual_seed(settings["seed"])
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * settings["initial_b"])
    return trainer


def save_adapter(trainer, folder):
    trainer.model.save_pretrained(folder, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)


def save_tokens(trainer, settings, path):
    with open(path, "w") as out:
        for row in trainer.train_dataset:
            room = max(settings["max_length"] - len(row["prompt_ids"]), 0)
            cut = {"prompt_ids": row["prompt_ids"]} | {key: row[key][:room] for key in TOKEN_COLUMNS[1:]}
            out.write(json.dumps(cut) + "\n")


def run(settings, out):
    """Trains as `settings` say; the report is also written to `out`/steps.json."""
    settings = {**DEFAULTS, **settings}
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings["threads"])
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(settings["seed"])
    start = time.perf_counter()
    trainer = build(settings)
    setup = time.perf_counter() - start
    if settings["save_gradients"]:
        trainer.add_callback(Gradients(out / "gradients.safetensors"))
    save_tokens(trainer, settings, out / "tokens.jsonl")
    if not settings["full"]:
        save_adapter(trainer, out / "initial")
    begin = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - begin
    if settings["full"]:
        trainer.model.save_pretrained(out / "final")
    else:
        save_adapter(trainer, out / "final")
    steps = [
        {key: float(value) for key, value in entry.items() if not key.startswith(SKIPPED_METRICS)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    report = {
        "source": f"TRL {trl.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__}",
        "settings": settings,
        "pairs": len(trainer.train_dataset),
        "setup_seconds": round(setup, 2),
        "train_seconds": round(seconds, 2),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "steps": steps,
    }
    (out / "steps.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


if __name__ == "__main__":
    for path, folder in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        with open(path, encoding="utf-8") as file:
            run(json.load(file), folder)
