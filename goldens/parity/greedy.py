"""Writes on from prompts with transformers, always the most likely token, in f32.

`python greedy.py MODEL TOKENS` prints one JSON object: for each prompt its token ids, and those that follow.
The prompts are questions through the model's own chat template where it has one, and texts as they are.
"""
import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    "Why is the sky blue?", "How do I boil an egg?", "Name three rivers in Africa.", "What is 17 times 23?",
    "Write a haiku about rain.", "Explain recursion to a child.", "Translate 'good morning' into French and Spanish.",
    "What should I pack for a week in Norway?", "List the planets by size.", "Who wrote Don Quixote?",
]
TEXTS = [
    "Once upon a time, there was a lighthouse keeper who", "def fibonacci(n):\n    ", "The capital of Australia is",
    "Dear Sir or Madam,\n\nI am writing to", "1, 1, 2, 3, 5, 8,", "To make bread you need", "Die Hauptstadt von Deutschland",
    "In 1969, two astronauts", "<html>\n<head>\n<title>", "The three laws of motion are:",
]
folder, count = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(2)
transformers.utils.logging.disable_progress_bar()
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
prompts = []
for question in QUESTIONS:
    if tokenizer.chat_template:
        message = [{"role": "user", "content": question}]
        prompts.append(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=True)["input_ids"])
    else:
        prompts.append(tokenizer(question)["input_ids"])
prompts += [tokenizer(text)["input_ids"] for text in TEXTS]
written = []
for prompt in prompts:
    with torch.no_grad():
        ids = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=count,
            do_sample=False, temperature=None, top_p=None, top_k=None, repetition_penalty=1.0,
        )[0, len(prompt):].tolist()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    written.append(ids[:-1] if ids and ids[-1] in ends else ids)
json.dump({"source": f"transformers {transformers.__version__}", "prompts": prompts, "written": written}, sys.stdout)
