"""Makes goldens/data/: what transformers, tokenizers, sentencepiece and TRL make of texts written here.

Needs transformers 5.23, tokenizers, sentencepiece and trl 1.16 (with torch and datasets). Run in the project's
root: `python goldens/make_data.py [TOK512_MODEL]`, where the argument is the tokenizer of tinyllamas' stories260K;
without it the golden of that tokenizer is left as it is.

  templates.json    our own templates, conversations, and their renderings by transformers
  splits.json       texts as the published pre-tokenizers split them, by the name GGUF files use
  pieces.json       texts as sentencepiece tokenizes them with stories260K's vocabulary
  tokenize.json     rows as TRL's DPOTrainer prepares them with the tokenizer of goldens/trl/chat
"""
import datetime
import json
import pathlib
import sys

OUT = pathlib.Path("goldens/data")

# --- chat templates ---------------------------------------------------------------------------------------------------

CHAT = """\
{%- if tools %}
    {{- '<|turn|>tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
        {{- '\\n' if not loop.last else '' }}
    {%- endfor %}
    {{- '<|end|>\\n' }}
{%- endif %}
{% for message in messages %}
    {% if message.role == 'assistant' %}
        {{- '<|turn|>assistant\\n' }}
        {%- generation -%}
        {%- if message.reasoning_content is defined and message.reasoning_content %}
            {{- '<think>' + message.reasoning_content + '</think>\\n' }}
        {%- endif %}
        {{- message.content if message.content is string else '' }}
        {%- for call in message.tool_calls or [] %}
            {{- '<call>' ~ call.function.name ~ ' ' ~ (call.function.arguments | tojson) ~ '</call>' }}
        {%- endfor %}
        {{- '<|end|>\\n' }}
        {%- endgeneration -%}
    {% elif message.role in ['user', 'system', 'tool'] %}
        {{- '<|turn|>' + message.role + '\\n' + message.content | trim + '<|end|>\\n' }}
    {%- else %}
        {{- raise_exception('unknown role: ' + message.role) }}
    {%- endif %}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|turn|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think></think>\\n' }}
    {%- endif %}
{% endif %}
"""

DATED = """\
{{ bos_token }}{% set ns = namespace(system='', turns=0) %}
{% for message in messages if message['role'] == 'system' %}
{% set ns.system = ns.system + message['content'] %}
{% endfor %}
Today is {{ strftime_now('%A, %d %B %Y') }} ({{ strftime_now("%-d.%m.%y, day %j") }}).
{% if ns.system %}Rules: {{ ns.system }}
{% endif %}
{% if documents %}
{% for document in documents %}
[{{ loop.index }}/{{ loop.length }}] {{ document.title | upper }}: {{ document['text'] }}
{% endfor %}
{% endif %}
{% for message in messages | rejectattr('role', 'equalto', 'system') %}
{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception("roles must alternate, but turn " ~ loop.index ~ " is by the " ~ message.role) }}
{% endif %}
{% if loop.previtem is defined and loop.previtem.content == message.content %}{% continue %}{% endif %}
{% set ns.turns = ns.turns + 1 %}
{% if ns.turns > 4 %}{% break %}{% endif %}
{{ message.role | capitalize }}: {{ message.content }}{% if message.role != 'user' %}{{ eos_token }}{% endif %}{{ '' if loop.nextitem is defined else '\\n' }}

{% endfor %}
{% if add_generation_prompt -%}
Assistant:
{%- endif %}
"""

MACROS = """\
{%- macro turn(role, text='', open=false) -%}
<{{ role }}>{{ text }}{% if not open %}</{{ role }}>{% endif %}
{%- endmacro -%}
{%- set system = messages | selectattr('role', 'eq', 'system') | map(attribute='content') | join(' ') -%}
{%- set rest = messages[1:] if messages[0].role == 'system' else messages -%}
{%- if system -%}{{ turn('rules', system.strip()) }}{%- endif -%}
{%- for message in rest[::-1][:2][::-1] -%}
  {%- set text = message.content -%}
  {%- if text is none or text is undefined -%}{%- set text = '' -%}{%- endif -%}
  {%- if '</think>' in text -%}{%- set text = text.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}
  {{ turn(message.role, text) }}
  {%- if tools is iterable and tools | length > 0 and loop.first -%}
    {%- for name in tools | map(attribute='function') | map(attribute='name') -%}{{ turn('tool', name) }}{%- endfor -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ turn('assistant', open=true) }}{%- endif -%}
"""

PYTHON = """\
{% set values = {'b': 1, 'a': [1.0, 1e-7, 2e20, true, none, "it's"], 'é': {}} %}
{{ values }} {{ values.a }} {{ 1.5 }} {{ true }} {{ none }} {{ 3 / 2 }} {{ 7 // 2 }} {{ 2 ** 3 }}
{{ values | tojson }}
{{ values | tojson(indent=2) }}
{{ values | tojson(sort_keys=true, ensure_ascii=true) }}
{{ values | tojson(separators=(',', ':')) }}
{{ values.items() | list | length }} {% for key, value in values | dictsort %}{{ key }};{% endfor %}

{% for message in messages %}
{% set text = message.content | string %}
{{ text.strip() }}|{{ text.rstrip('!? ') }}|{{ text.split() | join(',') }}|{{ text.split(' ', 1) | length }}|{{ text.splitlines() | length }}
{{ text.startswith('Hi') }} {{ text.endswith(('?', '!')) }} {{ text.upper() }} {{ text.find('e') }} {{ text.replace('e', 'E') }} {{ text[:3] }} {{ text[-2:] }}
{{ text.removeprefix('Hi') }} {{ text.partition(' ')[0] }} {{ text.count('e') }} {{ '7'.zfill(3) }} {{ text | length }} {{ text.title() }} {{ text.rsplit(' ', 1)[0] }}
{% endfor %}
{{ tools is iterable }} {{ absent is iterable }} {{ absent is defined }} {{ absent | default('none', true) }} {{ messages is sequence }} {{ values is mapping }} {{ 'x' is string }}
{{ messages | map(attribute='role') | list | tojson }} {{ [3, 1, 2] | sort | first }} {{ range(3) | list }} {{ dict(a=1).get('b', 'no') }} {{ values.get('zz') is none }}
{{ "%s has %d" | format('x', 3) }} {{ 'a' ~ 1 ~ none }} {{ 'safe <b>' | safe }} {{ [1, [2, 3]] | string }}
"""

# What the templates of Mistral and Granite lean on, in our own words: names that nobody gave, slices of JSON, the last
# of a selection, neighbours by index, a name set anew in a loop, and line breaks within texts.
LEANING = """\
{%- if tools and not offered -%}{%- set offered = tools -%}{%- endif -%}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set ns = namespace(head='rules', text='', turns=0) %}
{%- set asked = messages | selectattr("role", "equalto", "user") | list %}
{%- if 'quotes' in controls and documents %}{{- 'quote ' }}{%- endif %}
{%- if documents %}
    {%- for document in documents %}
        {%- set ns.text = ns.text + '\\n' + (document | tojson) %}
        {{- '<' + document['doc_id'] | string + '>
' }}
    {%- endfor %}
{%- endif %}
{%- if ns.text %}{{- ns.head + ns.text }}{%- else %}{{- ns.head ~ ' none' }}{%- endif %}
{%- for message in messages %}
    {%- set kept = namespace(val='') %}
    {%- if message.content is string %}{%- set kept.val = message.content %}
    {%- elif message.content is iterable %}
        {%- for entry in message.content %}
            {%- if entry.type== 'text' %}{%- set kept.val = kept.val + entry.text %}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {%- if message.role == 'user' and tools is not none and message == asked[-1] %}
        {%- for tool in offered %}
            {%- set tool = tool.function %}
            {%- for key, val in tool.items() if key != "name" %}
                {{- '"' + key + '": ' + (val if val is string else val|tojson) }}{{- ', ' if not loop.last }}
            {%- endfor %}
        {%- endfor %}
        {{- offered | tojson(indent=4) }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {%- if call.function %}{%- set call = call.function %}{%- endif %}
        {%- set out = call|tojson %}
        {{- out[:-1] }}
        {%- if call.id is defined and call.id|length != 9 %}{{- raise_exception('nine letters') }}{%- endif %}
        {{- ', "id": "' ~ call.id ~ '"}' }}
    {%- endfor %}
    {%- if loop.first or (messages[loop.index0 - 1].role != message.role) %}{{- '[' + message.role + ']' }}{%- endif %}
    {{- kept.val }}
    {%- if loop.last or (messages[loop.index0 + 1].role != message.role) %}{{- '[/' + message.role + ']' }}{%- endif %}
    {%- if (message["role"] == "user") != (ns.turns % 2 == 0) %}{{- '!' }}{%- endif %}
    {%- set ns.turns = ns.turns + 1 %}
    {%- if loop.last and add_generation_prompt %}
        {{- '[assistant' }}{%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}{{- ']' }}
    {%- endif %}
{%- endfor %}
"""

TEMPLATES = {"chat": CHAT, "dated": DATED, "macros": MACROS, "python": PYTHON, "leaning": LEANING}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "tide",
            "description": "When is high tide? <b>&</b> 潮 – 'now'",
            "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
        },
    }
]
SYSTEM = {"role": "system", "content": "  Be brief. \n"}
USER = {"role": "user", "content": " Hi there, where <is> the éléphant & co? 象\n"}
ASSISTANT = {"role": "assistant", "content": "In the zoo!  "}
THOUGHT = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIn the zoo.", "reasoning": "well, hm"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"type": "function", "function": {"name": "tide", "arguments": {"port": "Zürich", "n": 1.0, "deep": [True, None, 1e-9]}}}
    ],
}
ANSWER = {"role": "tool", "content": '{"at": 3}'}
CONVERSATIONS = {
    "user": {"messages": [USER], "add_generation_prompt": True},
    "pair": {"messages": [USER, ASSISTANT]},
    "system": {"messages": [SYSTEM, USER, ASSISTANT]},
    "long": {"messages": [SYSTEM, USER, THOUGHT, USER, ASSISTANT, USER], "add_generation_prompt": True},
    "twice": {"messages": [USER, ASSISTANT, USER, ASSISTANT, USER, ASSISTANT]},
    "wrong order": {"messages": [USER, USER]},
    "unknown role": {"messages": [USER, {"role": "judge", "content": "Guilty"}]},
    "tools": {"messages": [SYSTEM, USER], "tools": TOOLS, "add_generation_prompt": True},
    "call": {"messages": [USER, CALL, ANSWER, ASSISTANT], "tools": TOOLS},
    "documents": {"messages": [USER], "documents": [{"title": "zoo", "text": "It is open."}, {"title": "sea", "text": "It is deep."}]},
    "thinking off": {"messages": [USER], "add_generation_prompt": True, "kwargs": {"enable_thinking": False}},
    "quoted": {
        "messages": [USER, {"role": "user", "content": [{"type": "text", "text": "And then?"}]}],
        "documents": [{"doc_id": 7, "text": "It is open."}], "add_generation_prompt": True,
        "kwargs": {"controls": {"quotes": True, "length": "short"}},
    },
    "continued": {"messages": [USER, ASSISTANT], "continue_final_message": True},
    "continued parts": {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "In the"}]}], "continue_final_message": True},
    "nothing to continue": {"messages": [USER, CALL], "continue_final_message": True},
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
DATE = datetime.datetime(2024, 2, 9)


def render(template, case):
    from transformers.utils import chat_template_utils as utils

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return DATE

    utils.datetime = Frozen
    options = {key: value for key, value in case.items() if key not in ("messages", "kwargs")}
    try:
        texts, _ = utils.render_jinja_template([case["messages"]], chat_template=template, **options, **SPECIAL, **case.get("kwargs", {}))
        return {"text": texts[0]}
    except Exception as error:  # what the template or transformers refuses, we must refuse
        return {"refused": type(error).__name__, "message": str(error)}


def make_templates():
    cases = []
    for name, template in TEMPLATES.items():
        for conversation, case in CONVERSATIONS.items():
            cases.append({"template": name, "conversation": conversation, **render(template, case)})
    return {
        "source": "transformers.utils.chat_template_utils.render_jinja_template, transformers 5.23",
        "date": DATE.date().isoformat(), "special_tokens": SPECIAL,
        "templates": TEMPLATES, "conversations": CONVERSATIONS, "cases": cases,
    }


# --- texts ------------------------------------------------------------------------------------------------------------

TEXTS = [
    "", " ", "  ", "\n", "\n\n \n", "\t\tx\r\n y", "Hello, world!", "I'm sure you'RE right; we'll see, they've 'd it's",
    "one  two   three    four", "x = 12345 + 3.14159e-10", "1,000,000 and 12 34 567 8901", "   007  \n 42", "\n\n1. first\n\n22. second",
    "日本語の文です。これは2024年です。", "汉字 和 English 混合 3个", "한국어 문장 둘", "العربية ١٢٣ نص", "עברית", "हिन्दी पाठ", "ไทย ๑๒",
    "naïve café ÉCOLE straße ŒUVRE", "e\u0301 a\u0308 combining", "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽!", "\u00a0nbsp\u2003em\u200bzero\u2028line\u0085next",
    "tabs\tand\x0bvertical\x0cforms", "snake_case camelCase HTTPServer v2.0-rc1 #42 @me", "https://a.b/c?d=e&f=%20#g", "(a)[b]{c}<d>/e\\f|g~h`i^j",
    "…—“quoted” ‘single’ «guillemets»", "½ ² Ⅳ ① 𝟘 𝐀𝐁", "$100 €5 ¥3 £2 +1 -1 ±0 ×÷=", "!!!???...", "a\u0000b", "İstanbul ſtraſſe K Å",
    "ALLCAPS lower Mixed'S 'T x'lL", "def f(x):\n    return x**2  # ok\n\n\n", "end with spaces   ", "0123456789" * 3, "aaaaaaaaaaaaaaaaaaaaaaaa", "     deep     indent",
]

# --- splits -----------------------------------------------------------------------------------------------------------

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WHITE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
FROM_TRANSFORMERS = ["llama-bpe", "tekken", "qwen2", "qwen35", "gpt-4o"]
BY_HAND = {
    # word: the regular expressions in order, or "digits" for one digit at a time; from the models' own tokenizer.json
    "gpt-2": [GPT2],
    "smollm": ["digits", GPT2],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+", "digits"],
    "deepseek-llm": [
        r"[\r\n]",
        r"\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}"
        r"-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}"
        r"\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-"
        r"\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-"
        r"\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}"
        r"-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}"
        r"\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-"
        r"\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}"
        r"\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}"
        r"\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}"
        r"\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}"
        r"\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+",
        r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+", r"\s+$", r"[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+", "digits",
    ],
    "deepseek-v3": [
        r"\p{N}{1,3}", r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + WHITE,
    ],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "seed-coder": [SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + WHITE],
    "bailingmoe": [r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"],
}


def make_splits():
    from tokenizers import Regex, pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    rules = {name: [GGUF_PRE_TOKENIZER_SPLITS[name]] for name in FROM_TRANSFORMERS} | BY_HAND
    kinds = {}
    for name, steps in rules.items():
        cut = [
            pre_tokenizers.Digits(individual_digits=True) if step == "digits" else pre_tokenizers.Split(Regex(step), "isolated")
            for step in steps
        ]
        splitter = pre_tokenizers.Sequence([*cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        kinds[name] = [[piece for piece, _ in splitter.pre_tokenize_str(text)] for text in TEXTS]
    return {"source": "tokenizers' Split and Digits with the published expressions; pieces in byte letters", "texts": TEXTS, "kinds": kinds}


# --- sentencepiece ----------------------------------------------------------------------------------------------------


def keep_spaces(model: bytes) -> bytes:
    """The model with `normalizer_spec.remove_extra_whitespaces` off, as GGUF files of it mean it."""

    def number(at):
        value = shift = 0
        while True:
            byte = model[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    def written(value):
        out = bytearray()
        while True:
            value, low = value >> 7, value & 127
            out.append(low | (128 if value else 0))
            if not value:
                return bytes(out)

    out, at = bytearray(), 0
    while at < len(model):
        start = at
        tag, at = number(at)
        assert tag & 7 == 2, "every field of a model is a message"
        length, at = number(at)
        body, at = model[at : at + length], at + length
        if tag >> 3 == 3:
            body += b"\x20\x00"
        out += written(tag) + written(len(body)) + body if tag >> 3 == 3 else model[start:at]
    return bytes(out)


def make_pieces(path):
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=keep_spaces(pathlib.Path(path).read_bytes()))
    stories = [
        "Once upon a time, there was a little girl named Lily.", "She saw a big dog. The dog said, \"Hello!\"",
        "They played all day.\nThen they went home.", "aaaa bbbb      cccc", "the the the  the   the",
    ]
    texts = TEXTS + stories
    ids = [model.encode(text) for text in texts]
    return {
        "source": "sentencepiece 0.2.3 with stories260K's model, runs of spaces kept",
        "texts": texts, "ids": ids, "decoded": [model.decode(row) for row in ids],
    }


# --- TRL --------------------------------------------------------------------------------------------------------------

PLAIN = [
    ("What is the sky?", " Blue.", " A green thing with legs."),
    ("What is the sky", "? Blue.", "? Red, I say, and it was always so."),
    ("Which word? Wh", "at", "o knows"),  # the seam lies inside a token
    ("Say it twice: ", "it it", "no"),
    ("End it yourself", " now<|im_end|>", " or not"),
    ("A long prompt that fills the length all by itself, word after word after word, and never ends", " Yes", " No"),
    ("Same start", " the same words for a long while until they differ at last here", " the same words for a long while until they differ at last there"),
    ("Grüße aus 東京 😀", " Hallo\n\n", "\n\n1. Hallo"),
]
TURNS = [
    ([("user", "Hi")], "Hello!", "Go away."),
    ([("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "And now?")], "We talk.\n", ""),
    ([("user", "One"), ("assistant", "Two")], "Three", "Four"),
    ([("user", "A question with many words in it, so that it is long enough to be cut")], "A short answer", "A longer answer with more words than the other one has"),
]


def make_tokenize():
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained("goldens/trl/chat")

    class Trainer:
        _tokenizer = tokenizer

    def message(turn):
        return {"role": turn[0], "content": turn[1]}

    plain = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in PLAIN]
    turns = [
        {"prompt": [message(t) for t in p], "chosen": [message(("assistant", c))], "rejected": [message(("assistant", r))]}
        for p, c, r in TURNS
    ]
    runs = []
    for name, rows in (("plain", plain), ("turns", turns)):
        for max_length in (40, 80, 1024):
            config = DPOConfig(output_dir="unused", max_length=max_length, bf16=False, use_cpu=True)
            data = Dataset.from_list([{**row, "row": index} for index, row in enumerate(rows)])
            prepared = DPOTrainer._prepare_dataset(Trainer(), data, tokenizer, config, "golden")
            examples = []
            for row in prepared:
                room = max_length - len(row["prompt_ids"])  # what the collator keeps of each completion
                ids = [row["prompt_ids"], row["chosen_ids"][:room], row["rejected_ids"][:room]]
                examples.append({"row": row["row"], "prompt": ids[0], "chosen": ids[1], "rejected": ids[2]})
            runs.append({"rows": name, "max_length": max_length, "examples": examples})
    return {"source": "trl 1.16.0 DPOTrainer._prepare_dataset, cut as its collator cuts", "plain": plain, "turns": turns, "runs": runs}


def write(name, golden):
    text = json.dumps(golden, ensure_ascii=False, indent=None, separators=(",", ":"))
    (OUT / name).write_text(text.replace('},{"', '},\n{"').replace('],[', '],\n[') + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write("templates.json", make_templates())
    write("splits.json", make_splits())
    write("tokenize.json", make_tokenize())
    if len(sys.argv) > 1:
        write("pieces.json", make_pieces(sys.argv[1]))
