"""Asks a running server with OpenAI's own client (`pip install openai`), as programs made for it do.

`python server.py URL KEY BASE ADAPTER` prints {"client": its version, "checks": how many, "wrong": [what]}.
"""
import json
import sys

import openai
from openai import OpenAI

url, key, base, adapter = sys.argv[1:]
client = OpenAI(base_url=url, api_key=key, max_retries=0)
question = [{"role": "user", "content": "2+1?"}]
checks, wrong = 0, []


def check(what, holds):
    global checks
    checks += 1
    if not holds:
        wrong.append(what)


def refused(what, kind, code, param, ask):
    """The client knows what is wrong by its own class, and finds code and param."""
    try:
        ask()
    except openai.APIStatusError as error:
        found = (type(error), error.code, error.param)
        check(f"{what}: {found}", found == (kind, code, param))
    else:
        check(f"{what}: was not refused", False)


def chat(**more):
    fields = {"model": base, "messages": question, "max_tokens": 24, "temperature": 1, "seed": 5}
    return client.chat.completions.create(**(fields | more))


def models():
    names = [model.id for model in client.models.list()]
    check("models", names == [base, adapter])
    one = client.models.retrieve(adapter)
    check("one model", (one.id, one.object, one.parent) == (adapter, "model", base))


def chats():
    answer = chat()
    choice = answer.choices[0]
    check("chat", answer.object == "chat.completion" and answer.model == base and answer.id)
    check("message", choice.message.role == "assistant" and choice.message.content)
    check("finish", choice.finish_reason in ("stop", "length"))
    usage = answer.usage
    check("usage", usage.total_tokens == usage.prompt_tokens + usage.completion_tokens)
    check("same seed", chat().choices[0].message.content == choice.message.content)
    check("other seed", chat(seed=6).choices[0].message.content != choice.message.content)
    several = chat(n=3).choices
    check("several", [choice.index for choice in several] == [0, 1, 2])
    check("first of several", several[0].message.content == choice.message.content)
    other = chat(model=adapter, temperature=0).choices[0].message.content
    check("adapter", other != chat(temperature=0).choices[0].message.content)
    stop = choice.message.content[4:6]
    cut = chat(stop=[stop]).choices[0]
    text = choice.message.content
    check("stop", cut.message.content == text[: text.find(stop)] and cut.finish_reason == "stop")
    more = chat(extra_body={"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.2})
    check("more ways to draw", more.choices[0].message.content)
    # An answer goes back into the conversation as the client holds it.
    again = chat(messages=[*question, choice.message.model_dump(), {"role": "user", "content": "?"}])
    check("a second turn", again.usage.prompt_tokens > usage.prompt_tokens)


def streams():
    whole = chat()
    pieces = list(chat(stream=True, stream_options={"include_usage": True}))
    check("pieces", all(piece.object == "chat.completion.chunk" for piece in pieces))
    check("one id", len({piece.id for piece in pieces}) == 1)
    check("usage at the end", pieces[-1].usage == whole.usage and pieces[-1].choices == [])
    deltas = [piece.choices[0] for piece in pieces[:-1]]
    text = "".join(delta.delta.content or "" for delta in deltas)
    check("stream says the same", text == whole.choices[0].message.content)
    check("role first", deltas[0].delta.role == "assistant")
    check("finish last", [delta.finish_reason for delta in deltas if delta.finish_reason]
          == [whole.choices[0].finish_reason])
    # The client's own way to gather a stream, which checks each piece; it wants answers that end.
    stop = text[4:6]
    with client.chat.completions.stream(
        model=base, messages=question, max_tokens=24, temperature=1, seed=5, stop=stop
    ) as stream:
        for _ in stream:
            pass
        gathered = stream.get_final_completion()
    check("gathered", gathered.choices[0].message.content == text[: text.find(stop)])
    stream = chat(stream=True)
    next(iter(stream))
    stream.close()
    check("after a stream that was left", chat().choices[0].message.content == text)


def logps():
    told = chat(logprobs=True, top_logprobs=4, temperature=0).choices[0].logprobs.content
    for token in told:
        check("top", len(token.top_logprobs) == 4 and token.top_logprobs[0].token == token.token)
        check("value", token.top_logprobs[0].logprob == token.logprob <= 0)
        check("bytes", token.bytes is None or bytes(token.bytes).decode() == token.token)
    pieces = chat(logprobs=True, top_logprobs=4, temperature=0, stream=True)
    streamed = [token for piece in pieces if piece.choices[0].logprobs
                for token in piece.choices[0].logprobs.content]
    check("streamed", streamed == told)


def completions():
    def complete(**more):
        fields = {"model": base, "prompt": "it is ", "max_tokens": 8, "temperature": 0}
        return client.completions.create(**(fields | more))

    answer = complete()
    text = answer.choices[0].text
    check("completion", answer.object == "text_completion" and answer.choices[0].index == 0)
    check("stream of text", "".join(it.choices[0].text for it in complete(stream=True)) == text)
    both = complete(prompt=["it is ", "no"]).choices
    check("two prompts", both[0].text == text and [it.index for it in both] == [0, 1])
    told = complete(echo=True, logprobs=2, max_tokens=0).choices[0]
    check("echo", told.text == "it is " and "".join(told.logprobs.tokens) == "it is ")
    check("first has none", told.logprobs.token_logprobs[0] is None)
    check("others have", all(it <= 0 for it in told.logprobs.token_logprobs[1:]))
    # Parts of a character look alike, and share an entry.
    check("alternatives", all(len(it) in (1, 2) for it in told.logprobs.top_logprobs[1:]))
    check("offsets", told.logprobs.text_offset[0] == 0)


def refusals():
    bad = openai.BadRequestError
    refused("model", openai.NotFoundError, "model_not_found", "model", lambda: chat(model="other"))
    refused("temperature", bad, "invalid_value", "temperature", lambda: chat(temperature=3))
    refused("tools", bad, "unsupported_parameter", "tools", lambda: chat(tools=[
        {"type": "function", "function": {"name": "f", "parameters": {}}}]))
    refused("format", bad, "unsupported_parameter", "response_format",
            lambda: chat(response_format={"type": "json_object"}))
    refused("unknown", bad, "unknown_parameter", "x", lambda: chat(extra_body={"x": 1}))
    refused("long", bad, "context_length_exceeded", "messages",
            lambda: chat(messages=[{"role": "user", "content": "a " * 4000}]))
    stranger = OpenAI(base_url=url, api_key="other", max_retries=0)
    refused("key", openai.AuthenticationError, "invalid_api_key", None, stranger.models.list)
    refused("no such thing", openai.NotFoundError, "unknown_url", None,
            lambda: client.embeddings.create(model=base, input="a"))


for part in (models, chats, streams, logps, completions, refusals):
    part()
print(json.dumps({"client": openai.__version__, "checks": checks, "wrong": wrong}))
