"""HA-DPO's own kind of step, as a plain PyTorch loop: tests/gpu/peers/hadpo.py on the CPU, at our side's sizes."""
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../../../gpu/peers")
import hadpo  # noqa: E402
from transformers import LlavaConfig  # noqa: E402


def make(o):
    loop = hadpo.Loop("cpu", False, LlavaConfig.from_pretrained(o["folder"]))
    with open(f"{o['folder']}/pairs.json") as f:
        pairs = json.load(f)
    batches = [loop.batch(pairs[i:i + o["batch"]]) for i in range(0, len(pairs), o["batch"])]

    def step():
        for batch in batches:
            loop.step(batch)

    return step
