"""Greedy decoding of a LLaVA's language model by transformers' generate, of one or several answers at once: the median
step's seconds, without the prompt's."""
import statistics
import time

import torch

import llava


class Clock:
    """A streamer that notes when tokens come: the prompt is the first that it is given."""

    def __init__(self):
        self.times = []

    def put(self, _):
        self.times.append(time.perf_counter())

    def end(self):
        pass

    def token(self):
        return statistics.median(b - a for a, b in zip(self.times[1:], self.times[2:]))


def make(o):
    model = llava.new(o["folder"]).eval()
    ids = torch.randint(3, 250, (o["answers"], o["prompt"]))

    def generate():
        clock, n = Clock(), o["tokens"] + 1
        with torch.no_grad():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n,
                           do_sample=False, pad_token_id=0, streamer=clock)
        return clock.token()

    return generate
