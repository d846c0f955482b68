"""The tiny model's training steps in PyTorch, as a good user writes them: transformers' LLaMA, PEFT,
padded batches, one forward a kind of sequence so that short ones are not padded to long ones, the
LM head on answer tokens alone, fused AdamW, the reference by switching the adapter off.

    torch_tiny.py MODEL FEATURES STEPS [--compile] [--threads 2] [--attention sdpa]

MODEL is a llava-hf folder and FEATURES a safetensors file of projector outputs [images, rows, D],
both written by steps.lua; STEPS is data/tiny_steps.json. Reads commands from stdin, a line of JSON each:

    {"do": "sft", "steps": 8}   supervised steps ("dpo": preference steps): {"seconds": [...], "loss": the first}

The first command of a kind is for warming up (and compiling).
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

IMAGE = -200
LINEARS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
KIND_WEIGHTS = {"desc": 1.0, "pope": 4.0}
BETA = 0.1


def language_model(folder, attention):
    config = json.loads((folder / "config.json").read_text())["text_config"]
    config.pop("model_type", None)
    config.pop("architectures", None)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation=attention))
    prefix = "language_model."
    weights = {n[len(prefix):]: t.float() for n, t in load_file(folder / "model.safetensors").items()
               if n.startswith(prefix)}
    model.load_state_dict(weights)
    return model


class Group:
    """Sequences of one kind, padded on the right: what one forward takes."""

    def __init__(self, sequences, features):
        rows = features.shape[1]
        longest = max(len(s["ids"]) for s in sequences) - 1 + rows
        n = len(sequences)
        self.ids = torch.zeros(n, longest, dtype=torch.long)
        self.pictures = torch.zeros(n, longest, dtype=torch.bool)
        self.mask = torch.zeros(n, longest, dtype=torch.long)
        owner, where, target = [], [], []
        for i, s in enumerate(sequences):
            at = s["ids"].index(IMAGE)
            ids = s["ids"][:at] + [0] * rows + s["ids"][at + 1:]
            self.ids[i, :len(ids)] = torch.tensor(ids)
            self.pictures[i, at:at + rows] = True
            self.mask[i, :len(ids)] = 1
            first = s["score_from"] - 1 + rows - 1  # place of the first scored token in ids
            owner += [i] * (len(ids) - first)
            where += range(first - 1, len(ids) - 1)
            target += ids[first:]
        self.owner, self.where = torch.tensor(owner), torch.tensor(where)
        self.target = torch.tensor(target)
        self.features = features[torch.tensor([s["image"] - 1 for s in sequences])].reshape(
            -1, features.shape[2])
        self.count = n


class Steps:
    def __init__(self, options):
        torch.manual_seed(0)
        self.options = options
        self.features = load_file(options.features)["features"]
        self.data = json.loads(Path(options.steps).read_text())
        self.made = {}

    # ---- one forward: the log-probabilities of a group's answer tokens

    def forward_of(self, model):
        """embeddings, mask and the scored places -> log-probabilities; the part that compiles."""
        decoder, head = model.model, model.lm_head

        def forward(embeddings, mask, owner, where, target):
            hidden = decoder(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)
            logits = head(hidden.last_hidden_state[owner, where])
            return -F.cross_entropy(logits, target, reduction="none")

        return torch.compile(forward, dynamic=True) if self.options.compile else forward

    def token_logps(self, model, forward, group):
        embeddings = model.model.embed_tokens(group.ids)
        embeddings = embeddings.masked_scatter(group.pictures[..., None], group.features)
        mask = None if self.options.causal_only else group.mask
        return forward(embeddings, mask, group.owner, group.where, group.target)

    # ---- supervised: every weight of the decoder

    def make_sft(self):
        model = language_model(Path(self.options.model), self.options.attention).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98),
                                      weight_decay=0.05, fused=True)
        forward, number = self.forward_of(model), 0

        def step():
            nonlocal number
            batch = self.data["sft"][number % len(self.data["sft"])]
            number += 1
            loss = 0
            for kind in sorted({s["kind"] for s in batch}):
                group = Group([s for s in batch if s["kind"] == kind], self.features)
                loss = loss - self.token_logps(model, forward, group).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            return float(loss.detach())

        return step

    # ---- preference: LoRA on the decoder's linears

    def make_dpo(self):
        base = language_model(Path(self.options.model), self.options.attention)
        peft = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0,
                                               target_modules=LINEARS, task_type="CAUSAL_LM"))
        peft.train()
        adapter = [p for p in peft.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(adapter, lr=4e-4, weight_decay=0.0, fused=True)
        model = peft.get_base_model()
        policy, reference, number = self.forward_of(model), self.forward_of(model), 0

        def sums(forward, group):
            tokens = self.token_logps(model, forward, group)
            return torch.zeros(group.count).index_add(0, group.owner, tokens).chunk(2)

        def step():
            nonlocal number
            pairs = self.data["dpo"][number % len(self.data["dpo"])]
            number += 1
            loss = 0
            for kind, weight in KIND_WEIGHTS.items():
                group = Group([{"image": p["image"], "ids": p["prompt"] + p[side],
                                "score_from": len(p["prompt"]) + 1}
                               for side in ("chosen", "rejected")
                               for p in pairs if p["kind"] == kind], self.features)
                with torch.no_grad(), peft.disable_adapter():
                    ref_chosen, ref_rejected = sums(reference, group)
                chosen, rejected = sums(policy, group)
                margin = (chosen - rejected) - (ref_chosen - ref_rejected)
                loss = loss - weight * F.logsigmoid(BETA * margin).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(adapter, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            return float(loss.detach())

        return step

    def run(self, kind, count):
        if kind not in self.made:
            self.made[kind] = {"sft": self.make_sft, "dpo": self.make_dpo}[kind]()
        step, times, first = self.made[kind], [], None
        for _ in range(count):
            start = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - start)
            first = loss if first is None else first
        return {"seconds": times, "loss": first}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("features")
    p.add_argument("steps")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    p.add_argument("--causal-only", action="store_true",
                   help="no attention mask: rows padded on the right do not need it")
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    steps = Steps(options)
    print(json.dumps({"ready": "torch " + torch.__version__}), flush=True)
    for line in sys.stdin:
        o = json.loads(line)
        print(json.dumps(steps.run(o["do"], o["steps"])), flush=True)


if __name__ == "__main__":
    main()
