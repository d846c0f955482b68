"""Greedy decoding of a LLaVA's language model by transformers' generate: seconds of a token, without the prompt's."""
import time

import torch

import llava


def make(o):
    model = llava.new(o["folder"]).eval()
    ids = torch.randint(3, 250, (1, o["prompt"]))

    def generate(n):
        started = time.perf_counter()
        with torch.no_grad():
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n,
                           do_sample=False, pad_token_id=0)
        return time.perf_counter() - started

    return lambda: (generate(o["tokens"] + 1) - generate(1)) / o["tokens"]
