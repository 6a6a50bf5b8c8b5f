"""Makes goldens/trl/sft-*: TRL's own fine-tuning runs on the tiny chat model of goldens/trl.

Needs torch, transformers, peft, trl, datasets. Run in the project's root: `python goldens/make_sft.py [OUT]`.

  sft-<run>.json         settings, rows as they are given, and TRL's metrics of every step, in f32
  sft-<run>.safetensors  the adapter at the end, or some weights in full fine-tuning
"""
import json
import pathlib
import re
import sys
import tempfile

import peft
import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "goldens/trl")
PAIRS = [json.loads(line) for line in open(OUT / "pairs.jsonl", encoding="utf-8")]
ASKED = [row["prompt"][0]["content"] for row in PAIRS]
TOLD = [row["chosen"][0]["content"] for row in PAIRS]
TALKS = [row["prompt"] + row["chosen"] for row in PAIRS]
# Two turns: both answers are learned, and the second question too.
TALKS = [first + second for first, second in zip(TALKS, TALKS[1:] + TALKS[:1])]
ROWS = {
    "text": [{"text": f"{asked} {told}"} for asked, told in zip(ASKED, TOLD)],
    "strings": [{"prompt": f"{asked} ", "completion": told} for asked, told in zip(ASKED, TOLD)],
    "chat": [{"prompt": row["prompt"], "completion": row["chosen"]} for row in PAIRS],
    "talks": [{"messages": talk} for talk in TALKS],
}
BASE = {"batch_size": 4, "gradient_accumulation_steps": 1, "max_steps": 10, "learning_rate": 1e-3, "max_seq_length": 64}
RUNS = {
    "text": BASE,
    # Steps of three micro-batches, whose tokens all count for the same.
    "strings": {**BASE, "batch_size": 2, "gradient_accumulation_steps": 3, "lr_scheduler_type": "cosine"},
    "chat": BASE,
    # Cut at the end.
    "talks": {**BASE, "max_seq_length": 40, "max_grad_norm": 0.5, "weight_decay": 0.01},
    # The answers alone; the last rows end within one.
    "talks-answers": {**BASE, "max_seq_length": 48, "assistant_only_loss": True},
    "strings-whole": {**BASE, "max_steps": 4, "completion_only_loss": False},
    "text-full": {**BASE, "max_steps": 5, "full": True, "weight_decay": 0.01},
}
# The template of goldens/trl/chat, which marks what the assistant writes.
MARKED = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
)
DEFAULTS = {"full": False, "completion_only_loss": None, "assistant_only_loss": False, "lr_scheduler_type": "linear", "max_grad_norm": 1.0, "weight_decay": 0.0}


def config(settings):
    return SFTConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=False, report_to=[], save_strategy="no", logging_steps=1,
        disable_tqdm=True, train_sampling_strategy="sequential", gradient_checkpointing=False, seed=42,
        max_length=settings["max_seq_length"], completion_only_loss=settings["completion_only_loss"],
        assistant_only_loss=settings["assistant_only_loss"],
        learning_rate=settings["learning_rate"], lr_scheduler_type=settings["lr_scheduler_type"], warmup_steps=0,
        per_device_train_batch_size=settings["batch_size"], max_steps=settings["max_steps"],
        gradient_accumulation_steps=settings["gradient_accumulation_steps"], weight_decay=settings["weight_decay"],
        max_grad_norm=settings["max_grad_norm"],
    )


def record(name, settings):
    settings = {**DEFAULTS, **settings}
    rows = ROWS[name.split("-")[0]]
    torch.manual_seed(42)
    model = AutoModelForCausalLM.from_pretrained(OUT / "chat", dtype=torch.float32)
    model.get_input_embeddings().padding_idx = None
    lora = None
    if not settings["full"]:
        lora = LoraConfig.from_pretrained(OUT / "adapter")
        lora.inference_mode = False
    tokenizer = AutoTokenizer.from_pretrained(OUT / "chat")
    if settings["assistant_only_loss"]:
        tokenizer.chat_template = MARKED
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, peft_config=lora,
        args=config(settings), train_dataset=Dataset.from_list(rows),
    )
    if lora is not None:
        weights = peft.load_peft_weights(str(OUT / "adapter"), device="cpu")
        peft.set_peft_model_state_dict(trainer.model, weights)
    trainer.train()
    with tempfile.TemporaryDirectory() as scratch:
        trainer.model.save_pretrained(scratch)
        if lora is None:
            weights = load_file(pathlib.Path(scratch) / "model.safetensors")
            kept = ("model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight")
            weights = {key: weights[key] for key in kept}
        else:
            weights = load_file(pathlib.Path(scratch) / "adapter_model.safetensors")
    save_file(weights, OUT / f"sft-{name}.safetensors", metadata={"format": "pt"})
    steps = [
        {key: float(value) for key, value in entry.items() if key not in ("step", "total_flos")}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    report = {
        "source": f"TRL {trl.__version__}, transformers {transformers.__version__}, PEFT {peft.__version__}, torch {torch.__version__}",
        "settings": settings,
        "steps": steps,
        "rows": rows,
    }
    text = json.dumps(report, indent=1, ensure_ascii=False)
    text = re.sub(r"\{\s+([^{}]*?)\s+\}", lambda m: "{" + re.sub(r"\s*\n\s*", " ", m.group(1)) + "}", text)
    (OUT / f"sft-{name}.json").write_text(text + "\n", encoding="utf-8")
    print(name, " ".join(f"{step['loss']:.4f}/{step['grad_norm']:.3f}" for step in steps), sorted(steps[0]))


transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
for name, settings in RUNS.items():
    record(name, settings)
