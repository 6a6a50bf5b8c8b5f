"""Weights after bitsandbytes' 4-bit storage: NF4 in blocks of 64, scales in 8 bits.

Needs torch and bitsandbytes 0.50 (CPU). Writes goldens/kernels/nf4.json.
"""

import json
from pathlib import Path

import torch
from bitsandbytes import functional as bnb

ROWS, COLS = 175, 100  # blocks cross rows, and the last one is not whole


def value(index: int) -> float:
    """A weight in [-0.5, 0.5) times a size that changes from block to block."""
    share = (index * 2654435761 % 2**32) / 2**32 - 0.5
    size = (index // 64 * 40503 % 65536) / 65536
    return share * (0.01 + size * size)


def main() -> None:
    weight = torch.tensor([value(index) for index in range(ROWS * COLS)], dtype=torch.float64)
    weight[:64] = 0.0  # a block of nothing
    weight = weight.to(torch.bfloat16).reshape(ROWS, COLS)
    packed, state = bnb.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    scales = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    bits = bnb.dequantize_4bit(packed, state).reshape(-1).view(torch.int16).tolist()
    found = {
        "rows": ROWS,
        "cols": COLS,
        "levels": bnb.create_dynamic_map().tolist(),
        "scales": scales.tolist(),
        "bf16": "".join(f"{bit & 0xFFFF:04x}" for bit in bits),
    }
    path = Path(__file__).parent / "kernels" / "nf4.json"
    path.write_text(json.dumps(found) + "\n")


main()
