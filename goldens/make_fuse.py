"""Weights that PEFT merged with an adapter, in f32: goldens/fuse/merged.json.

Needs torch, transformers, peft. Run in the project's root: `python goldens/make_fuse.py`.

Takes the model goldens/trl/chat and the adapter goldens/trl/adapter, as it stands and with other
settings (`use_rslora`, `alpha_pattern`), and keeps some tensors of what `merge_and_unload` gives.
"""

import json
import shutil
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

GOLDENS = Path(__file__).parent
SETTINGS = {
    "plain": {},
    "rslora": {"use_rslora": True, "alpha_pattern": {"layers.1.mlp.down_proj": 3}},
}
KEPT = [
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.1.post_attention_layernorm.weight",
]


def merged(settings: dict) -> dict:
    model = AutoModelForCausalLM.from_pretrained(GOLDENS / "trl" / "chat", dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(GOLDENS / "trl" / "adapter", folder, dirs_exist_ok=True)
        path = Path(folder) / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        state = PeftModel.from_pretrained(model, folder).merge_and_unload().state_dict()
    return {name: state[name].flatten().tolist() for name in KEPT}


def main() -> None:
    cases = [
        {"name": name, "settings": settings, "tensors": merged(settings)}
        for name, settings in SETTINGS.items()
    ]
    (GOLDENS / "fuse").mkdir(exist_ok=True)
    source = (
        "PeftModel.merge_and_unload, f32; "
        f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}, peft {peft.__version__}"
    )
    text = json.dumps({"source": source, "cases": cases}) + "\n"
    (GOLDENS / "fuse" / "merged.json").write_text(text)


main()
