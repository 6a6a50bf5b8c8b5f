"""Holds GGUF files that this program wrote against llama.cpp.

Needs llama-cpp-python, gguf, tokenizers and numpy.

`python llama_cpp_run.py prepare MODEL FOLDER` writes, for a model folder of the Hugging Face layout,

  FOLDER/texts.json          token ids of texts, by the `tokenizers` library
  FOLDER/trl/tokens.jsonl    rows of a prompt, its next token (chosen), and its next eight (rejected)
  FOLDER/adapter/            an adapter with random matrices for every linear, half of them with an
                             alpha of their own, scaled by the root of the rank

`python llama_cpp_run.py compare REQUEST.json` prints what llama.cpp says of the files of a request

  model, folder    as above
  files            GGUF files by type; `f32` is the one that the others are held against
  fused, adapter   the model with the adapter in its weights as f32, and the adapter alone

as JSON: `tokens`, how many texts get other ids in llama.cpp; `logps` and `fused` and `adapted`, for
each row the log-probabilities of both sides by type, of the fused model, and of the base with the
adapter; `off`, by type, the mean absolute difference of a token's log-probability from f32; `kl`, the
mean divergence from f32, and `kl_theirs`, that of what llama.cpp's own quantization makes of the f32
file; `exact`, by type, the largest difference of a stored weight from the folder's, over the rounding
of the type.
"""
import ctypes
import json
import pathlib
import struct
import sys

import gguf
import llama_cpp
import numpy as np
import tokenizers
from gguf.quants import dequantize

ROOT = pathlib.Path(__file__).resolve().parents[2]
WINDOW = 96  # tokens of a text
TEXTS = 12
LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
LINEARS += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
RANK, ALPHA = 8, 16


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, array in sorted(tensors.items()):
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(array.tobytes() for _, array in sorted(tensors.items()))
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def read_safetensors(folder):
    """Every tensor of a folder, widened to f32."""
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        for name, entry in json.loads(raw[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            data = raw[start:end]
            if entry["dtype"] == "BF16":
                array = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
            else:
                array = np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[entry["dtype"]])
            tensors[name] = array.astype(np.float32).reshape(entry["shape"])
    return tensors


def make_adapter(model, folder):
    config = json.loads((model / "config.json").read_text())
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    query, key = heads * head, config.get("num_key_value_heads", heads) * head
    sizes = [(query, hidden), (key, hidden), (key, hidden), (hidden, query)]
    sizes += [(inner, hidden), (inner, hidden), (hidden, inner)]
    random = np.random.default_rng(7)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for linear, (outputs, inputs) in zip(LINEARS, sizes):
            stem = f"base_model.model.model.layers.{layer}.{linear}"
            a = random.normal(0, inputs**-0.5, (RANK, inputs))
            b = random.normal(0, 0.01, (outputs, RANK))
            tensors[f"{stem}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = b.astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model),
        "r": RANK, "lora_alpha": ALPHA, "use_rslora": True, "bias": "none",
        "target_modules": [linear.split(".")[1] for linear in LINEARS],
        "alpha_pattern": {"q_proj": ALPHA / 2, "up_proj": ALPHA * 1.5},
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2))
    write_safetensors(folder / "adapter_model.safetensors", tensors)


def prepare(model, folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    prose = "\n".join(path.read_text() for path in sorted((ROOT / "docs/guides").glob("*.md")))
    ids = encode(prose)
    texts = [ids[start : start + WINDOW] for start in range(0, TEXTS * WINDOW, WINDOW)]
    many = json.loads((ROOT / "goldens/data/splits.json").read_text())["texts"]
    many += [prose[start : start + 500] for start in range(0, 5000, 500)]
    spelled = [{"text": text, "ids": encode(text)} for text in many]
    (folder / "trl").mkdir(parents=True, exist_ok=True)
    (folder / "texts.json").write_text(json.dumps({"texts": texts, "spelled": spelled}))
    rows = []
    for index, text in enumerate(texts):
        for at in (16, 40, 64, 80):
            rows.append({"text": index, "at": at})
    (folder / "rows.json").write_text(json.dumps(rows))
    with open(folder / "trl/tokens.jsonl", "w") as out:
        for row in rows:
            text, at = texts[row["text"]], row["at"]
            line = {"prompt_ids": text[:at], "chosen_ids": text[at : at + 1], "rejected_ids": text[at : at + 8]}
            out.write(json.dumps(line) + "\n")
    make_adapter(model, folder / "adapter")


def open_model(path, adapter=None):
    # Keys and values in f32, for the file alone is to be seen.
    return llama_cpp.Llama(
        model_path=str(path), lora_path=adapter, n_ctx=WINDOW + 16, n_batch=WINDOW + 16, logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, verbose=False,
    )


def log_probabilities(path, texts, adapter=None):
    """For each text the log-probabilities of all tokens at every place, [places, vocabulary]."""
    model = open_model(path, adapter)
    found = []
    for text in texts:
        model.reset()
        model.eval(text)
        logits = np.array(model.scores[: len(text)], np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        found.append(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    model.close()
    return found


def of_rows(found, texts, rows):
    """The log-probabilities of both sides of each row."""
    sides = []
    for row in rows:
        text, logps = texts[row["text"]], found[row["text"]]
        of = lambda count: float(sum(logps[at - 1, text[at]] for at in range(row["at"], row["at"] + count)))
        sides.append([of(1), of(min(8, len(text) - row["at"]))])
    return sides


def own_tokens(found, texts):
    return np.concatenate([logps[np.arange(len(text) - 1), text[1:]] for logps, text in zip(found, texts)])


def divergence(wanted, found):
    kl = [np.sum(np.exp(p) * (p - q), axis=-1) for p, q in zip(wanted, found)]
    return float(np.concatenate(kl).mean())


def quantize_with_llama_cpp(source, target, file_type):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert code == 0, f"llama.cpp cannot quantize {source}"


def hugging_face_rows(name, array, config):
    """Rows of q and k as the folder has them."""
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    kind = name.split(".")[2] if name.startswith("blk.") else ""
    if kind not in heads:
        return array
    count = config.get(heads[kind], config["num_attention_heads"])
    head = array.shape[0] // count
    return array.reshape(count, head // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def check_weights(path, model, rounding):
    """The largest difference of a matrix's weight from the folder's, over the size of the weight and
    over how far the type may round."""
    config = json.loads((model / "config.json").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    wanted = {}
    for name, array in read_safetensors(model).items():
        base, _, kind = name.rpartition(".")
        mapped = names.get_name(base)
        if mapped:
            wanted[f"{mapped}.{kind}"] = array
    reader = gguf.GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "llama"
    largest, seen = 0.0, 0
    for tensor in reader.tensors:
        values = dequantize(np.array(tensor.data), tensor.tensor_type).astype(np.float32)
        values = hugging_face_rows(tensor.name, values, config)
        want = wanted[tensor.name].reshape(values.shape)
        off = np.abs(values - want) / np.maximum(np.abs(want), 2.0**-14)
        largest, seen = max(largest, float(off.max()) / rounding), seen + 1
    tied = config.get("tie_word_embeddings", False)
    assert seen == len([name for name in wanted if not (tied and name == "output.weight")])
    return largest


def compare(request):
    model, folder = pathlib.Path(request["model"]), pathlib.Path(request["folder"])
    stored = json.loads((folder / "texts.json").read_text())
    texts, rows = stored["texts"], json.loads((folder / "rows.json").read_text())
    files = request["files"]
    plain = open_model(files["f32"])
    spell = lambda text: plain.tokenize(text.encode(), add_bos=False, special=True)
    others = [one["text"] for one in stored["spelled"] if spell(one["text"]) != one["ids"]]
    plain.close()
    wanted = log_probabilities(files["f32"], texts)
    report = {"tokens": [len(others), len(stored["spelled"])], "others": others[:3]}
    report |= {"logps": {"f32": of_rows(wanted, texts, rows)}, "off": {}, "kl": {}, "kl_theirs": {}, "exact": {}}
    for name, path in files.items():
        if name in ("f32", "f16", "bf16"):
            rounding = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}[name]
            report["exact"][name] = check_weights(path, model, rounding)
        if name == "f32":
            continue
        found = log_probabilities(path, texts)
        off = np.abs(own_tokens(found, texts) - own_tokens(wanted, texts))
        report["off"][name] = [float(off.mean()), float(off.max())]
        report["logps"][name] = of_rows(found, texts, rows)
        report["kl"][name] = divergence(wanted, found)
        if name in ("f32", "f16", "bf16"):
            continue
        file_type = int(gguf.GGUFReader(path).get_field("general.file_type").contents())
        theirs = folder / f"theirs-{name}.gguf"
        quantize_with_llama_cpp(files["f32"], theirs, file_type)
        report["kl_theirs"][name] = divergence(wanted, log_probabilities(theirs, texts))
        ours_types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
        their_types = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(theirs).tensors}
        report.setdefault("types", {})[name] = [
            f"{key}: {ours_types.get(key)} here, {kind} there"
            for key, kind in their_types.items() if ours_types.get(key) != kind
        ]
        theirs.unlink()
    report["fused"] = of_rows(log_probabilities(request["fused"], texts), texts, rows)
    report["adapted"] = of_rows(log_probabilities(files["f32"], texts, request["adapter"]), texts, rows)
    return report


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    else:
        print(json.dumps(compare(json.loads(pathlib.Path(sys.argv[2]).read_text()))))
