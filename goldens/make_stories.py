"""Makes goldens/model/stories260k.json: what transformers computes with a real trained model of 260 k weights.

`python goldens/make_stories.py FOLDER`, where FOLDER holds `stories260K.bin` (llama2.c's format) and
`tok512.model`. The model itself is not kept. Needs torch, transformers, sentencepiece.

llama2.c rotates adjacent pairs, transformers rotates halves: rows of q and k are permuted.
"""
import json
import pathlib
import re
import struct
import sys

import numpy
import sentencepiece
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = pathlib.Path(sys.argv[1])
STORY_TOKENS = 200


def halves(weight, heads):
    """Rows of each head from adjacent pairs to halves."""
    rows, columns = weight.shape
    return weight.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def load(path):
    """The llama2.c checkpoint as a LlamaForCausalLM."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack("7i", data[:28])
    values, at = torch.from_numpy(numpy.frombuffer(data[28:], dtype="<f4").copy()), 0

    def take(*shape):
        nonlocal at
        count = int(numpy.prod(shape))
        at += count
        return values[at - count : at].view(*shape).clone()

    kv_dim = dim // heads * kv_heads
    embed, norm1 = take(vocab, dim), take(layers, dim)
    q, k, v = take(layers, dim, dim), take(layers, kv_dim, dim), take(layers, kv_dim, dim)
    o, norm2 = take(layers, dim, dim), take(layers, dim)
    gate, down, up, norm = take(layers, hidden, dim), take(layers, dim, hidden), take(layers, hidden, dim), take(dim)
    state = {"model.embed_tokens.weight": embed, "lm_head.weight": embed, "model.norm.weight": norm}
    for i in range(layers):
        base = f"model.layers.{i}."
        state |= {
            base + "input_layernorm.weight": norm1[i], base + "post_attention_layernorm.weight": norm2[i],
            base + "self_attn.q_proj.weight": halves(q[i], heads), base + "self_attn.k_proj.weight": halves(k[i], kv_heads),
            base + "self_attn.v_proj.weight": v[i], base + "self_attn.o_proj.weight": o[i],
            base + "mlp.gate_proj.weight": gate[i], base + "mlp.down_proj.weight": down[i], base + "mlp.up_proj.weight": up[i],
        }
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv_heads, max_position_embeddings=context, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(state)
    return model.eval()


torch.set_num_threads(1)
model = load(FOLDER / "stories260K.bin")
pieces = sentencepiece.SentencePieceProcessor(str(FOLDER / "tok512.model"))
ids = model.generate(torch.tensor([[1]]), do_sample=False, max_new_tokens=STORY_TOKENS, pad_token_id=0)[0].tolist()
text = pieces.decode(ids)
documented = (FOLDER / "stories260K.md").read_text()
story = documented[documented.index("Once upon") :].replace("\n", " ")
assert story.startswith(text.replace("\n", " ")[:400].strip()), text
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0, :-1]
log_p = logits.double().log_softmax(-1)
token_logps = log_p[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
top = logits.topk(2).values
golden = {
    "source": f"transformers {transformers.__version__}, torch {torch.__version__}, f32, greedy from BOS",
    "ids": ids,
    "text": text,
    "logp": token_logps.sum().item(),
    "token_logps": [round(value, 7) for value in token_logps.tolist()],
    "logit_rms": logits.pow(2).mean().sqrt().item(),
    "smallest_lead": (top[:, 0] - top[:, 1]).min().item(),
}
out = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m.group(1)) + "]", json.dumps(golden, indent=1))
pathlib.Path("goldens/model/stories260k.json").write_text(out + "\n")
print(text[:200], golden["logp"], golden["logit_rms"], golden["smallest_lead"])
