"""Makes goldens/formats: files by the programs that define their formats, and what those read back.

Run as `cargo xtask goldens` with TRUEUP_ORACLE naming a virtual environment that holds gguf 0.19.0,
peft 0.21.2, safetensors, torch 2.15.0 and numpy (any recent version).

Numbers are given as the hexadecimal digits of their little-endian bytes, so that a comparison is of
bits. Nothing here is random: inputs come from a small integer recurrence, so that every machine
makes the same files.
"""
import importlib.metadata
import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

FOLDER = pathlib.Path(__file__).resolve().parent / "formats"


def version(*packages):
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def integers(count, seed):
    """Evenly spread integers below 2**16."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append(state >> 15)
    return out


def numbers(count, seed, scale=1.0):
    """Evenly spread values in (-scale, scale)."""
    return (np.array(integers(count, seed), np.float64) / 2**15 - 1.0) * scale


def hex_of(array):
    return np.ascontiguousarray(array).tobytes().hex()


def write(name, golden):
    (FOLDER / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")


# Where the f16 scales lie in a block, in bytes.
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def arbitrary_blocks(name, count, seed):
    """Blocks of arbitrary bits, but with finite scales."""
    _, size = gguf.GGML_QUANT_SIZES[Kind[name]]
    blocks = np.array(integers(count * size, seed), np.uint16).astype(np.uint8).reshape(count, size)
    for place, at in enumerate(SCALES[name]):
        scales = numbers(count, seed + 7 + place, 2.0).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks


def make_quants():
    cases = []
    plain = ["F32", "F16", "BF16"]
    quantized = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
    for place, name in enumerate(plain + quantized + ["Q4_K", "Q5_K", "Q6_K"]):
        kind = Kind[name]
        if name in plain + quantized:
            rows = numbers(2 * 96, 100 + place, 3.0).astype(np.float32).reshape(2, 96)
            stored = quantize(rows, kind)
            case = {"name": f"{name} of a row", "dtype": name, "rows": 2, "cols": 96}
            cases.append(case | {"bytes": hex_of(stored), "values": hex_of(dequantize(stored, kind))})
        if name not in plain:
            length, size = gguf.GGML_QUANT_SIZES[kind]
            per_row = 2 if length == 256 else 3
            stored = arbitrary_blocks(name, 2 * per_row, 200 + place).reshape(2, per_row * size)
            values = dequantize(stored, kind)
            assert np.isfinite(values).all()
            case = {"name": f"{name} of any bits", "dtype": name, "rows": 2, "cols": per_row * length}
            cases.append(case | {"bytes": hex_of(stored), "values": hex_of(values)})
    write("quants", {"source": f"gguf.quants.dequantize; {version('gguf')}", "cases": cases})
    print(f"formats/quants: {len(cases)} cases")


# Kinds with blocks of 256, as the least-squares search sees them: group, lowest and highest code,
# and whether there is an offset.
SEARCHED = {"Q4_K": (32, 0, 15, True), "Q5_K": (32, 0, 31, True), "Q6_K": (16, -32, 31, False)}


def bell(count, seed):
    """Values with a bell's distribution, the fourth block of 256 with some large ones among them."""
    values = sum(numbers(count, seed + place) for place in range(6)) / 20
    values[3 * 256 : 4 * 256 : 37] *= 6
    values[4 * 256 : 4 * 256 + 64] = np.abs(values[4 * 256 : 4 * 256 + 64])
    return values.astype(np.float32)


def least_squares(group, low, high, has_offset):
    """The least squared error of `scale * code + offset` that a fine search finds, in f64."""
    x = group.astype(np.float64)
    best = np.sum(x * x)
    for start in np.linspace(0.5, 1.3, 161):
        if has_offset:
            scale, offset = start * (x.max() - min(x.min(), 0)) / (high - low), min(x.min(), 0)
        else:
            scale, offset = start * x[np.argmax(np.abs(x))] / low, 0.0
        for _ in range(20):
            if scale == 0:
                break
            code = np.clip(np.round((x - offset) / scale), low, high)
            if has_offset:
                columns = np.stack([code, np.ones_like(code)], axis=1)
                scale, offset = np.linalg.lstsq(columns, x, rcond=None)[0]
                if offset > 0:
                    scale, offset = code @ x / max(code @ code, 1e-300), 0.0
            else:
                scale = code @ x / max(code @ code, 1e-300)
            best = min(best, np.sum((scale * code + offset - x) ** 2))
    return best


def make_quantized():
    """What packs numbers: the bytes of the simple kinds, and the error that the K kinds can reach."""
    cases = []
    for place, name in enumerate(["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]):
        rows = numbers(6 * 32, 600 + place, 3.0).astype(np.float32)
        rows[32:64] = 0
        rows[64:96] = np.abs(rows[64:96])
        rows[96:128] = -0.75
        rows[128:160:2] *= 1e-3
        rows[160:192:5] = [1.5, -1.5, 1.5, -1.5, 1.5, -1.5, 1.5]
        case = {"dtype": name, "values": hex_of(rows)}
        cases.append(case | {"bytes": hex_of(quantize(rows, Kind[name]))})
    for place, (name, (size, *search)) in enumerate(SEARCHED.items()):
        values = bell(8 * 256, 700 + 10 * place)
        error = sum(least_squares(group, *search) for group in values.reshape(-1, size))
        cases.append({"dtype": name, "values": hex_of(values), "least_error": error})
    source = f"gguf.quants.quantize, and numpy.linalg.lstsq over many starts; {version('gguf')}"
    write("quantized", {"source": source, "cases": cases})
    print(f"formats/quantized: {len(cases)} cases")


def make_gguf():
    path = FOLDER / "sample.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    scalars = {
        "u8": (200, GGUFValueType.UINT8), "i8": (-100, GGUFValueType.INT8),
        "u16": (60000, GGUFValueType.UINT16), "i16": (-30000, GGUFValueType.INT16),
        "u32": (4000000000, GGUFValueType.UINT32), "i32": (-2000000000, GGUFValueType.INT32),
        "u64": (2**63 + 5, GGUFValueType.UINT64), "i64": (-(2**62), GGUFValueType.INT64),
        "f32": (0.1, GGUFValueType.FLOAT32), "f64": (0.1, GGUFValueType.FLOAT64),
        "yes": (True, GGUFValueType.BOOL), "text": ("Ünïcödé", GGUFValueType.STRING),
    }
    for key, (value, kind) in scalars.items():
        writer.add_key_value(f"test.{key}", value, kind)
    writer.add_array("test.integers", [1, -2, 3])
    writer.add_array("test.numbers", [0.5, -0.25])
    writer.add_array("test.truths", [True, False, True])
    writer.add_array("test.nested", [[1, 2, 3], [4]])
    writer.add_key_value("test.bytes", bytes([0, 255, 7]), GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT8)
    writer.add_uint32("llama.block_count", 1)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<s>", "</s>", "a", "b", "ab", " "])
    writer.add_token_types([3, 3, 1, 1, 1, 1])
    writer.add_token_scores([0.0, 0.0, -1.0, -2.0, -3.0, -4.0])
    writer.add_token_merges(["a b", "ab c", "  x"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(True)
    writer.add_chat_template([{"name": "default", "template": "{{ messages }}"},
                              {"name": "tool_use", "template": "{{ tools }}"}])
    tensors = {}
    for place, name in enumerate(["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]):
        rows = numbers(3 * 32, 300 + place).astype(np.float32).reshape(3, 32)
        tensors[f"{name.lower()}.weight"] = (Kind[name], quantize(rows, Kind[name]), [3, 32])
    for place, name in enumerate(["Q4_K", "Q5_K", "Q6_K"]):
        tensors[f"{name.lower()}.weight"] = (Kind[name], arbitrary_blocks(name, 1, 400 + place), [1, 256])
    tensors["vector"] = (Kind.F32, numbers(5, 500).astype(np.float32), [5])
    tensors["cube"] = (Kind.F32, numbers(24, 501).astype(np.float32).reshape(2, 3, 4), [2, 3, 4])
    for name, (kind, stored, _) in tensors.items():
        writer.add_tensor(name, stored, raw_dtype=None if stored.dtype != np.uint8 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = {}
    for tensor in GGUFReader(path).tensors:
        kind, _, shape = tensors[tensor.name]
        values = dequantize(np.array(tensor.data), kind).astype(np.float32)
        expected[tensor.name] = {"dtype": kind.name, "shape": shape, "values": hex_of(values)}
    write("sample", {"source": f"gguf.GGUFWriter and GGUFReader; {version('gguf')}", "tensors": expected})
    print(f"formats/sample: {len(expected)} tensors")


def make_safetensors():
    path = FOLDER / "sample.safetensors"
    tensors = {
        "f32": torch.tensor(numbers(6, 600), dtype=torch.float32).reshape(2, 3),
        "f16": torch.tensor(numbers(5, 601), dtype=torch.float16),
        "bf16": torch.tensor(numbers(8, 602), dtype=torch.bfloat16).reshape(2, 2, 2),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(0.75),
        "ids": torch.arange(3),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    expected = {
        name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape),
               "values": hex_of(tensor.to(torch.float32).numpy())}
        for name, tensor in load_file(path).items()
    }
    write("safetensors", {"source": f"safetensors.torch; {version('safetensors')}", "tensors": expected})
    print(f"formats/safetensors: {len(expected)} tensors")


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(6, 4, bias=False)
        self.v_proj = torch.nn.Linear(6, 4, bias=False)
        self.up_proj = torch.nn.Linear(6, 8, bias=False)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(), Block()])

    def prepare_inputs_for_generation(self):
        """PEFT asks for its presence in every language model."""


def make_adapter():
    folder = FOLDER / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=6, lora_dropout=0.05, use_rslora=True,
        target_modules=["q_proj", "v_proj", "up_proj"],
        rank_pattern={"up_proj": 3, "layers.1.v_proj": 1}, alpha_pattern={r"layers\.0\..*": 5},
        base_model_name_or_path="some/model",
    )
    model = get_peft_model(Model(), config)
    modules = {}
    with torch.no_grad():
        for place, (name, parameter) in enumerate(model.named_parameters()):
            if "lora_" in name:
                values = numbers(parameter.numel(), 700 + place).astype(np.float32)
                parameter.copy_(torch.tensor(values).reshape(parameter.shape))
        for name, module in model.base_model.model.named_modules():
            if hasattr(module, "get_delta_weight"):
                modules[name] = {
                    "rank": module.r["default"], "scale": module.scaling["default"],
                    "delta": module.get_delta_weight("default").flatten().tolist(),
                }
    model.save_pretrained(folder)
    # PEFT stores a set, whose order differs from run to run.
    path = folder / "adapter_config.json"
    stored = json.loads(path.read_text())
    stored["target_modules"].sort()
    path.write_text(json.dumps(stored, indent=2, sort_keys=True))
    (folder / "README.md").unlink()
    write("adapter", {"source": f"peft.LoraConfig; {version('peft', 'torch')}", "modules": modules})
    print(f"formats/adapter: {len(modules)} modules")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    make_quants()
    make_quantized()
    make_gguf()
    make_safetensors()
    make_adapter()
