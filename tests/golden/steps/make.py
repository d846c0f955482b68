"""Twenty LoRA steps of a tiny LLaVA with each of three of TRL's losses: sigmoid, ipo and hinge.

    python make.py          # reads ../llava_tiny/classic and ../dpo (adapter-before, the pairs);
                            # writes steps.json and adapter-LOSS.safetensors, the adapters' change

README.md names the versions.
"""

import importlib.util
import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration

HERE = Path(__file__).resolve().parent
loader = importlib.util.spec_from_file_location("dpo", HERE.parent / "dpo" / "make.py")
dpo = importlib.util.module_from_spec(loader)
loader.loader.exec_module(dpo)

STEPS, LR, CLIP, BETA = 20, 1e-3, 1.0, 0.1


def drawn(step, count):
    """The two pairs of a step, from 0."""
    return [step % count, (step + 1) % count]


def train(name, pairs, attention="eager"):
    """What happened in each step, and each tensor's change."""
    model = LlavaForConditionalGeneration.from_pretrained(dpo.LLAVA, attn_implementation=attention)
    model = PeftModel.from_pretrained(model, dpo.HERE / "adapter-before", is_trainable=True).eval()
    processor = CLIPImageProcessorPil.from_pretrained(dpo.LLAVA)
    adapter = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in adapter.items()}
    adamw = torch.optim.AdamW(adapter.values(), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    steps = []
    for step in range(STEPS):
        batch, mask = dpo.collate([pairs[i] for i in drawn(step, len(pairs))], processor)
        with torch.no_grad(), model.disable_adapter():
            reference = dpo.token_logps(model, batch, mask)
        loss, metrics = dpo.losses.trl_loss({name: 1.0}, dpo.token_logps(model, batch, mask), mask,
                                            reference, beta=BETA)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(adapter.values(), CLIP)
        adamw.step()
        adamw.zero_grad()
        keep = {k: v for k, v in metrics.items() if k.startswith(("rewards/", "logps/"))}
        steps.append({"loss": loss.item(), "grad_norm": float(norm), **keep})
    moved = {n.replace(".default.", "."): (p.detach() - before[n]).contiguous()
             for n, p in sorted(adapter.items())}
    return steps, moved


def norm(tensors):
    return float(sum(t.double().pow(2).sum() for t in tensors) ** 0.5)


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    pairs = dpo.make_pairs()
    record = {"beta": BETA, "lr": LR, "clip": CLIP, "betas": [0.9, 0.999], "eps": 1e-8, "losses": {}}
    for name in ("sigmoid", "ipo", "hinge"):
        steps, moved = train(name, pairs)
        save_file(moved, HERE / f"adapter-{name}.safetensors")
        _, other = train(name, pairs, attention="sdpa")  # how far f32 itself decides
        noise = norm(other[n] - moved[n] for n in moved) / norm(moved.values())
        record["losses"][name] = {"f32_noise": noise, "steps": steps}
    text = json.dumps(record).replace('{"loss"', '\n  {"loss"').replace('"losses": ', '\n"losses": ')
    (HERE / "steps.json").write_text(text + "\n")
    print({name: r["f32_noise"] for name, r in record["losses"].items()})


if __name__ == "__main__":
    main()
