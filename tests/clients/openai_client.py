"""The official OpenAI client asks a lucid server: URL PICTURE; what it got, as JSON on stdout."""
import base64
import json
import sys

import openai

url, picture = sys.argv[1:]
client = openai.OpenAI(base_url=url + "/v1", api_key="secret-of-the-tests", max_retries=0)
question = "Is there a car in the image?"
with open(picture, "rb") as f:
    data = "data:image/png;base64," + base64.b64encode(f.read()).decode()
about_picture = [{"role": "user", "content": [
    {"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": data}}]}]
plain = [{"role": "user", "content": question}]
got = {"version": openai.__version__, "models": [m.id for m in client.models.list()], "errors": {}}


def ask(**fields):
    return client.chat.completions.create(**{"model": "tiny", "messages": plain, "max_tokens": 12, **fields})


chat = ask()
got["chat"] = chat.choices[0].message.content
got["usage"] = [chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens]
got["reason"] = chat.choices[0].finish_reason
got["picture"] = ask(messages=about_picture).choices[0].message.content
got["sampled"] = [c.message.content for c in ask(temperature=1, seed=3, n=2).choices]
scored = ask(messages=about_picture, logprobs=True, top_logprobs=3).choices[0].logprobs.content
got["logprobs"] = [t.logprob for t in scored]
got["alternatives"] = [len(t.top_logprobs) for t in scored]

pieces, usage = [], None
for chunk in ask(messages=about_picture, stream=True, stream_options={"include_usage": True}):
    pieces += [c.delta.content or "" for c in chunk.choices]
    usage = chunk.usage or usage
got["stream"] = "".join(pieces)
got["stream_usage"] = usage.completion_tokens
with ask(stream=True) as unread:
    next(iter(unread))


def error(name, **fields):
    try:
        ask(**fields)
        got["errors"][name] = None
    except openai.APIStatusError as e:
        got["errors"][name] = [type(e).__name__, e.status_code, e.code, e.param]


error("model", model="none")
error("field", temperature=7)
error("tool", tools=[{"type": "function", "function": {"name": "f"}}])
error("remote", messages=[{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}]}])
client = openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0)
error("key")
json.dump(got, sys.stdout)
