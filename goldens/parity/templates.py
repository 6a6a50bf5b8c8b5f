"""Renders conversations with the chat templates of published models that come with TRL.

`python templates.py [FOLDER]` takes each `*.jinja` of a folder beside them, and prints one JSON object of the layout of goldens/data/templates.json: conversations,
templates, and what transformers makes of each pair. Nothing of it is kept in this project.
"""
import json
import pathlib
import sys

import trl

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from make_data import ANSWER, ASSISTANT, CALL, CONVERSATIONS, DATE, SPECIAL, SYSTEM, TOOLS, USER, render

PLAIN = {"role": "user", "content": "What is 2 + 2?"}
THINKING = {"role": "assistant", "content": "Four.", "reasoning_content": "Two and two\nare four."}
THOUGHT = {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nFour."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]}
TEXT_CALL = {
    "role": "assistant", "content": "I will look.",
    "tool_calls": [{"id": "call_12345", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Kiel"}'}}],
}
# Mistral's templates want identifiers of nine letters.
NINE_CALL = {**TEXT_CALL, "tool_calls": [{**TEXT_CALL["tool_calls"][0], "id": "tide12345"}]}
NINE_ANSWER = {"role": "tool", "tool_call_id": "tide12345", "content": '{"at": 3}'}
NAMED_ANSWER = {"role": "tool", "name": "tide", "tool_call_id": "call_12345", "content": '{"at": 3}'}
MORE = {
    "system alone": {"messages": [SYSTEM]},
    "system and user": {"messages": [SYSTEM, PLAIN], "add_generation_prompt": True},
    "empty system": {"messages": [{"role": "system", "content": ""}, PLAIN], "add_generation_prompt": True},
    "empty answer": {"messages": [PLAIN, {"role": "assistant", "content": ""}, PLAIN], "add_generation_prompt": True},
    "reasoning": {"messages": [PLAIN, THINKING, PLAIN, THINKING]},
    "reasoning before": {"messages": [PLAIN, THINKING, PLAIN], "add_generation_prompt": True},
    "thought": {"messages": [PLAIN, THOUGHT, PLAIN, THOUGHT]},
    "thinking on": {"messages": [PLAIN], "add_generation_prompt": True, "kwargs": {"enable_thinking": True}},
    "thinking kept": {"messages": [PLAIN, THINKING, PLAIN], "kwargs": {"preserve_thinking": True}},
    "effort": {"messages": [PLAIN], "add_generation_prompt": True, "kwargs": {"reasoning_effort": "low"}},
    "parts": {"messages": [PARTS, ASSISTANT]},
    "call of text": {"messages": [PLAIN, TEXT_CALL, NAMED_ANSWER], "tools": TOOLS, "add_generation_prompt": True},
    "call of nine letters": {"messages": [PLAIN, NINE_CALL, NINE_ANSWER, ASSISTANT], "tools": TOOLS},
    "thinking": {"messages": [PLAIN], "add_generation_prompt": True, "kwargs": {"thinking": True}},
    "controls": {
        "messages": [PLAIN], "documents": [{"doc_id": 7, "text": "It is open."}], "add_generation_prompt": True,
        "kwargs": {"controls": {"citations": True, "length": "short"}},
    },
    "call and on": {"messages": [SYSTEM, USER, CALL, ANSWER, ASSISTANT, PLAIN], "tools": TOOLS, "add_generation_prompt": True},
    "two calls": {"messages": [PLAIN, {**CALL, "tool_calls": CALL["tool_calls"] * 2}, ANSWER, ANSWER], "tools": TOOLS},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, PLAIN], "add_generation_prompt": True},
}
conversations = {**CONVERSATIONS, **MORE}
folder = pathlib.Path(trl.__file__).parent / "chat_templates"
folders = [folder, *map(pathlib.Path, sys.argv[1:])]
templates = {path.stem: path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.jinja"))}
cases = [
    {"template": name, "conversation": conversation, **render(template, case)}
    for name, template in templates.items()
    for conversation, case in conversations.items()
]
json.dump(
    {
        "source": " and ".join([f"TRL {trl.__version__}", *sys.argv[1:]]), "date": DATE.date().isoformat(), "special_tokens": SPECIAL,
        "templates": templates, "conversations": conversations, "cases": cases,
    },
    sys.stdout,
)
