"""How likely transformers finds some texts, in f32.

`python likelihood.py MODEL` prints one JSON object: for each text its token ids and the sum of their negative
log-probabilities, all but the first token's. MODEL is a folder or a GGUF file, whose tokenizer is the file's too.
"""
import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France. It is named after the "
    "engineer Gustave Eiffel, whose company designed and built the tower from 1887 to 1889 as the centerpiece of the "
    "World's Fair. It is 330 metres tall, about the same height as an 81-storey building.",
    "Photosynthesis is the process by which plants, algae and some bacteria turn light into chemical energy. Water is "
    "split in the light reactions, which sets oxygen free; the energy that they store as ATP and NADPH is used in the "
    "Calvin cycle to make sugars from carbon dioxide.",
    "def quicksort(items):\n    if len(items) <= 1:\n        return items\n    pivot = items[len(items) // 2]\n"
    "    left = [x for x in items if x < pivot]\n    middle = [x for x in items if x == pivot]\n"
    "    right = [x for x in items if x > pivot]\n    return quicksort(left) + middle + quicksort(right)\n",
]
path = pathlib.Path(sys.argv[1])
torch.set_num_threads(2)
transformers.utils.logging.disable_progress_bar()
source, file = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
tokenizer = AutoTokenizer.from_pretrained(source, **file)
model = AutoModelForCausalLM.from_pretrained(source, **file, dtype=torch.float32, attn_implementation="eager")
texts = []
for text in TEXTS:
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        logps = model(ids).logits[0, :-1].double().log_softmax(-1)
    texts.append({"text": text, "ids": ids[0].tolist(), "nll": -logps.gather(1, ids[0, 1:, None]).sum().item()})
versions = f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
print(json.dumps({"source": f"{type(model).__name__}, {versions}", "texts": texts}))
