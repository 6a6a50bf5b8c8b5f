"""How fast llama.cpp reads a prompt and writes on, in turns with another program.

Needs: llama-cpp-python 0.3.36.

    python llama_cpp_speed.py MODEL.gguf PROMPT_TOKENS NEW_TOKENS THREADS

Each line of the input asks for one measurement, which is written as a line of JSON.
"""

import json
import sys
import time

import llama_cpp


def measure(model, prompt, new_tokens):
    """Seconds of the prompt and its first token, and of the tokens after that."""
    model.reset()
    start = time.perf_counter()
    tokens = model.generate(prompt, temp=0.0, reset=True)
    next(tokens)
    prefill = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(new_tokens):
        next(tokens)
    decode = time.perf_counter() - start
    tokens.close()
    return {"prefill_seconds": prefill, "decode_seconds": decode, "decoded": new_tokens, "prompt": len(prompt)}


def main():
    path, prompt_tokens, new_tokens, threads = sys.argv[1], *map(int, sys.argv[2:])
    model = llama_cpp.Llama(
        path,
        n_ctx=prompt_tokens + new_tokens + 8,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    prompt = [(1000 + 37 * i) % model.n_vocab() for i in range(prompt_tokens)]
    for _ in sys.stdin:
        print(json.dumps(measure(model, prompt, new_tokens)), flush=True)


if __name__ == "__main__":
    main()
