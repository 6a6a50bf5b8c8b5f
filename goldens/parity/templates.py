"""Renders conversations with the chat templates of published models that come with TRL.

`python templates.py` prints one JSON object of the layout of goldens/data/templates.json: conversations,
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
    "call and on": {"messages": [SYSTEM, USER, CALL, ANSWER, ASSISTANT, PLAIN], "tools": TOOLS, "add_generation_prompt": True},
    "two calls": {"messages": [PLAIN, {**CALL, "tool_calls": CALL["tool_calls"] * 2}, ANSWER, ANSWER], "tools": TOOLS},
    "developer": {"messages": [{"role": "developer", "content": "Be kind."}, PLAIN], "add_generation_prompt": True},
}
conversations = {**CONVERSATIONS, **MORE}
folder = pathlib.Path(trl.__file__).parent / "chat_templates"
templates = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
cases = [
    {"template": name, "conversation": conversation, **render(template, case)}
    for name, template in templates.items()
    for conversation, case in conversations.items()
]
json.dump(
    {
        "source": f"TRL {trl.__version__}", "date": DATE.date().isoformat(), "special_tokens": SPECIAL,
        "templates": templates, "conversations": conversations, "cases": cases,
    },
    sys.stdout,
)
