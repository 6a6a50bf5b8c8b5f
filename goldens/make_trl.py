"""Makes goldens/trl/: a tiny chat model with tokenizer and template, and TRL's own training runs on it.

Needs torch, transformers, peft, trl, datasets. Run in the project's root: `python goldens/make_trl.py [OUT]`.

  chat/            a random Llama of 290 byte-level tokens with a chat template
  pairs.jsonl      conversational rows, written here
  adapter/         the adapter every LoRA run starts from (random A and B)
  <run>.json       settings, token ids in order, and TRL's metrics of every step, in f32
  <run>.safetensors  the adapter at the end, or some weights in full fine-tuning
"""
import json
import pathlib
import re
import shutil
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(pathlib.Path(__file__).parent / "parity"))
import trl_run

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "goldens/trl")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ROWS = [
    ("What colour is grass?", "Green.", "Grass has many stories to tell, friend."),
    ("Name a bird that swims.", "The penguin swims well.", "A brick."),
    ("How many legs has a spider?", "Eight.", "Spiders? I would rather speak of tea."),
    ("What is two plus three?", "Five, as fingers show.", "Seven"),
    ("Where do fish live?", "In water.", "In the tall trees, next to the owls."),
    ("What do bees make?", "Honey and wax.", "Noise."),
    ("Is ice cold?", "Yes.", "Maybe, maybe not; who can say for certain?"),
    ("What comes after Monday?", "Tuesday comes next.", "Soup"),
    ("Which is larger, a mouse or a horse?", "A horse.", "A mouse, of course, of course."),
    ("What do you open a door with?", "A key, or the handle.", "A poem"),
    ("Name a fruit.", "Pear.", "Gravel, served warm."),
    ("What does a clock show?", "The time.", "Nothing."),
    ("How do you say hello in French?", "Bonjour !", "Hello, but louder."),
    ("What is the sky at night?", "Dark, with stars.", "Loud."),
    ("Which month is first?", "January.", "The month of long walks"),
    ("What do cows eat?", "Grass and hay.", "Letters."),
    ("What is snow made of?", "Frozen water.", "Tiny pillows – or so they say."),
    ("Name a metal.", "Iron.", "Wood is a fine metal."),
    ("Who bakes bread?", "A baker does.", "Nobody"),
    ("What is the opposite of up?", "Down.", "Further up."),
    ("What warms the Earth?", "The Sun.", "A very large kettle."),
    ("Can fire burn paper?", "Yes, quickly.", "no"),
]
LORA = {"lora_r": 4, "lora_alpha": 8, "learning_rate": 1e-3}
RUNS = {
    "sigmoid": {**LORA, "batch_size": 4, "max_steps": 10, "beta": 0.5},
    # 22 rows in micro-batches of 2, three to a step: each epoch ends with a step of two micro-batches.
    "cosine": {
        **LORA, "batch_size": 2, "gradient_accumulation_steps": 3, "num_epochs": 2, "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.25, "weight_decay": 0.01, "max_length": 56, "max_grad_norm": 0.5,
    },
    "hinge": {**LORA, "batch_size": 4, "max_steps": 4, "loss_type": "hinge", "beta": 0.2},
    "ipo": {**LORA, "batch_size": 4, "max_steps": 4, "loss_type": "ipo"},
    "continued": {**LORA, "batch_size": 4, "max_steps": 4, "reference": "adapter"},
    "synced": {
        "full": True, "batch_size": 4, "max_steps": 6, "learning_rate": 1e-3, "sync_ref_model": True,
        "ref_model_mixup_alpha": 0.6, "ref_model_sync_steps": 2,
    },
    "full": {"full": True, "batch_size": 4, "max_steps": 5, "learning_rate": 1e-3, "weight_decay": 0.01},
}


def message(role, text):
    return [{"role": role, "content": text}]


def make_tokenizer(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=[AddedToken(text, special=True) for text in special],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(row) for row in ROWS], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        chat_template=TEMPLATE, model_max_length=256,
    )
    wrapped.save_pretrained(folder)


def make_model(folder):
    config = LlamaConfig(
        vocab_size=290, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, rms_norm_eps=1e-5,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.3 if "embed" in key else 1.0 / parameter.shape[-1] ** 0.5
            parameter.copy_(1.0 + 0.1 * noise if "norm" in key else scale * noise)
    model.save_pretrained(folder)


def make_adapter(folder):
    """A fresh adapter with a random B: what a run of no steps starts from."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = {**LORA, "model": str(OUT / "chat"), "data": str(OUT / "pairs.jsonl"), "initial_b": 0.1, "threads": 1}
        trainer = trl_run.build({**trl_run.DEFAULTS, **settings})
        trl_run.save_adapter(trainer, pathlib.Path(scratch))
        shutil.copytree(scratch, folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = None  # where this script ran
    config["target_modules"] = sorted(config["target_modules"])  # a set, in arbitrary order
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def record(name, settings):
    """Runs TRL and keeps the run as one JSON file and its weights at the end."""
    paths = {"model": str(OUT / "chat"), "data": str(OUT / "pairs.jsonl"), "threads": 1}
    if not settings.get("full"):
        paths["adapter"] = str(OUT / "adapter")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        report = trl_run.run({**settings, **paths}, scratch)
        rows = [json.loads(line) for line in open(scratch / "tokens.jsonl")]
        if settings.get("full"):
            weights = load_file(scratch / "final" / "model.safetensors")
            kept = ("model.embed_tokens.weight", "model.norm.weight", "model.layers.0.self_attn.q_proj.weight")
            weights = {key: weights[key] for key in kept}
        else:
            weights = load_file(scratch / "final" / "adapter_model.safetensors")
    save_file(weights, OUT / f"{name}.safetensors", metadata={"format": "pt"})
    # Where it lay, and what a speed comparison alone varies and reads.
    for key in ("model", "data", "adapter", "threads", "initial_b", "gradient_checkpointing", "precompute_ref_log_probs"):
        report["settings"].pop(key, None)
    for key in ("setup_seconds", "train_seconds", "peak_rss_bytes"):
        report.pop(key)
    report["tokens"] = rows
    text = json.dumps(report, indent=1)
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m.group(1)) + "]", text)
    (OUT / f"{name}.json").write_text(text + "\n")
    shown = [f"{s['loss']:.4f}/{s['grad_norm']:.3f}" for s in report["steps"]]
    print(name, len(rows), "pairs:", " ".join(shown))


for part in ("chat", "adapter"):
    shutil.rmtree(OUT / part, ignore_errors=True)
(OUT / "chat").mkdir(parents=True)
torch.set_num_threads(1)
with open(OUT / "pairs.jsonl", "w", encoding="utf-8") as out:
    for prompt, chosen, rejected in ROWS:
        row = {"prompt": message("user", prompt), "chosen": message("assistant", chosen), "rejected": message("assistant", rejected)}
        out.write(json.dumps(row, ensure_ascii=False) + "\n")
make_tokenizer(OUT / "chat")
make_model(OUT / "chat")
make_adapter(OUT / "adapter")
for name, settings in RUNS.items():
    record(name, settings)
