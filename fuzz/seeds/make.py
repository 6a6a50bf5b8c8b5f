"""Makes the seeds that no golden gives: GGUF files with a tokenizer and no tensors, and Parquet
files in every encoding of text, flat and in lists.

Run with the packages `gguf`, `numpy` and `pyarrow`: `python make.py`.
"""

from pathlib import Path

import gguf
import pyarrow
import pyarrow.parquet

HERE = Path(__file__).parent


def file(name, model, tokens, types, scores=None, merges=None, pre=None):
    writer = gguf.GGUFWriter(HERE / "tokenizer_from_gguf" / name, "llama")
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rows(name, table, encoding, version):
    pyarrow.parquet.write_table(
        table,
        HERE / "rows_parquet" / name,
        use_dictionary=False if encoding else True,
        column_encoding=encoding,
        data_page_version=version,
        compression="snappy",
    )


def parquet():
    flat = {name: [f"{name} {index}" for index in range(6)] for name in ["prompt", "chosen", "rejected"]}
    turn = lambda role, index: {"role": role, "content": f"{role} says {index}"}
    sides = {
        side: [[turn("user", index), turn("assistant", f"{side} {index}")] for index in range(4)]
        for side in ["chosen", "rejected"]
    }
    tables = {"flat": pyarrow.table(flat), "lists": pyarrow.table(sides)}
    for kind, table in tables.items():
        names = ["prompt", "chosen", "rejected"]
        if kind == "lists":
            names = [f"{side}.list.element.{key}" for side in sides for key in ["role", "content"]]
        for encoding in [None, "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
            for version in ["1.0", "2.0"]:
                chosen = encoding and {name: encoding for name in names}
                label = (encoding or "dictionary").lower().replace("_", "-")
                rows(f"{kind}-{label}-v{version[0]}.parquet", table, chosen, version)


def main():
    parquet()
    normal, unknown, control, byte = 1, 2, 3, 6
    pieces = ["\u2581", "O", "n", "c", "e", "On", "ce", "Once", "\u2581u", "p", "\u2581up", "1", "2"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{value:02X}>" for value in range(256)] + pieces
    types = [unknown, control, control] + [byte] * 256 + [normal] * len(pieces)
    scores = [0.0] * 259 + [-float(index) for index in range(len(pieces))]
    file("spm.gguf", "llama", tokens, types, scores)
    few = ["<unk>", "<s>", "</s>"] + pieces
    file("spm-few.gguf", "llama", few, [unknown, control, control] + [normal] * len(pieces), scores[256:])
    letters = [chr(code) for code in list(range(0x21, 0x7F)) + [0x120, 0x10A, 0xC3, 0xA9]]
    merged = ["On", "ce", "Once", "\u0120u", "\u0120up"]
    merges = ["O n", "c e", "On ce", "\u0120 u", "\u0120u p"]
    tokens = ["<|endoftext|>", "<s>", "</s>"] + letters + merged
    types = [control] * 3 + [normal] * (len(letters) + len(merged))
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"]:
        file(f"bpe-{pre}.gguf", "gpt2", tokens, types, merges=merges, pre=pre)


main()
