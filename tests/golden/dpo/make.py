"""Golden numbers of preference training: five LoRA DPO steps of a tiny LLaVA, with TRL's loss.

    python make.py          # reads ../llava_tiny/classic; writes replay.json, adapter-before/,
                            # adapter-after/, first-gradients.safetensors and the pictures

The loss is what trl.DPOTrainer._compute_loss returns, called as ../losses/make.py does it. README.md
names the versions.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "llava_tiny"))
from make import IMAGE, PIECES, draw, lines  # noqa: E402

loader = importlib.util.spec_from_file_location("losses", HERE.parent / "losses" / "make.py")
losses = importlib.util.module_from_spec(loader)
loader.loader.exec_module(losses)

LLAVA = HERE.parent / "llava_tiny" / "classic"
ROWS = 4  # of a picture
LINEARS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


def make_pairs():
    """Three pairs, each with its picture; the answers of the third begin alike."""
    rng = np.random.default_rng(9)
    pairs = []
    lengths = [(3, 6, 7, 7), (3, 4, 5, 11), (2, 8, 6, 9)]
    for i, (before, after, chosen, rejected) in enumerate(lengths):
        def some(n):
            return rng.integers(3, PIECES, n).tolist()
        picture = f"picture-{i + 1}.png"
        draw(HERE / picture, 40 + 9 * i, 47 - 6 * i, seed=20 + i)
        start = some(2) if i == 2 else []
        pairs.append({"image": picture, "before": [1] + some(before), "after": some(after),
                      "chosen": start + some(chosen) + [2],
                      "rejected": start + some(rejected) + [2]})
    return pairs


def collate(pairs, processor):
    """Padded as TRL does: the chosen sequences, then the rejected ones."""
    rows, masks, pixels = [], [], []
    for side in ("chosen", "rejected"):
        for p in pairs:
            prompt = p["before"] + [IMAGE] * ROWS + p["after"]
            rows.append(prompt + p[side])
            masks.append([0] * len(prompt) + [1] * len(p[side]))
            picture = Image.open(HERE / p["image"]).convert("RGB")
            pixels.append(processor(picture, return_tensors="pt")["pixel_values"])
    longest = max(map(len, rows))
    ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
    seen = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    mask = torch.tensor([m + [0] * (longest - len(m)) for m in masks])
    return {"input_ids": ids, "attention_mask": seen, "pixel_values": torch.cat(pixels)}, mask


def token_logps(model, batch, mask):
    logps = torch.log_softmax(model(**batch).logits[:, :-1].float(), -1)
    logps = logps.gather(2, batch["input_ids"][:, 1:, None])[..., 0]
    return logps * mask[:, 1:]


def replay(attention="eager"):
    """Five steps; what happened in each, and the adapter before and after."""
    torch.manual_seed(7)
    model = LlavaForConditionalGeneration.from_pretrained(LLAVA, attn_implementation=attention)
    processor = CLIPImageProcessorPil.from_pretrained(LLAVA)
    # The tower has q_proj, k_proj and v_proj of its own, so the targets are named by a pattern.
    targets = rf".*language_model.*\.({'|'.join(LINEARS)})"
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none",
                                             target_modules=targets, task_type="CAUSAL_LM"))
    model.eval()
    adapter = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert len(adapter) == 2 * len(LINEARS) * 2
    g = torch.Generator().manual_seed(8)
    with torch.no_grad():  # B is zero in a new adapter; not here, so that A has gradients at once
        for name, p in sorted(adapter.items()):
            if "lora_B" in name:
                p.copy_(0.05 * torch.randn(p.shape, generator=g))
    before = {n: p.detach().clone() for n, p in adapter.items()}

    pairs = make_pairs()
    batch, mask = collate(pairs, processor)
    with torch.no_grad(), model.disable_adapter():
        tokens = token_logps(model, batch, mask)
    reference = tokens.sum(1).chunk(2)
    adamw = torch.optim.AdamW(adapter.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
                              weight_decay=0.0)
    steps, slopes = [], None
    for _ in range(5):
        loss, metrics = losses.trl_loss({"sigmoid": 1.0}, token_logps(model, batch, mask), mask, tokens)
        loss.backward()
        if slopes is None:
            slopes = {n: p.grad.clone() for n, p in adapter.items()}
        norm = torch.nn.utils.clip_grad_norm_(adapter.values(), 0.3)
        adamw.step()
        adamw.zero_grad()
        keep = {k: v for k, v in metrics.items() if k.startswith(("rewards/", "logps/"))}
        steps.append({"loss": float(loss.detach()), "grad_norm": float(norm), **keep})
    slopes = {n.replace(".default.", "."): t.contiguous() for n, t in sorted(slopes.items())}
    if attention == "eager":
        save_file(slopes, HERE / "first-gradients.safetensors")
    record = {
        "model": "../llava_tiny/classic", "image_token": IMAGE, "beta": 0.1, "lr": 1e-3,
        "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0, "clip": 0.3, "rank": 4, "alpha": 8,
        "ref_chosen": reference[0].tolist(), "ref_rejected": reference[1].tolist(),
    }
    return model, adapter, before, record, pairs, steps


def save_adapter(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "tests/golden/llava_tiny/classic"
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for path in folder.iterdir():
        path.chmod(0o644)


def distance(a, b):
    return float((a - b).detach().double().norm() / b.detach().double().norm())


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    model, adapter, before, record, pairs, steps = replay()
    save_adapter(model, HERE / "adapter-after")
    after = {n: p.detach().clone() for n, p in adapter.items()}

    # How far f32 itself decides: the same steps with another order of the same sums.
    _, other, _, _, _, other_steps = replay(attention="sdpa")
    record["f32_noise"] = {
        "adapter": max(distance(other[n], after[n]) for n in after),
        "moved": max(distance(other[n] - before[n], after[n] - before[n]) for n in after),
        "loss": max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(other_steps, steps)),
    }
    with torch.no_grad():
        for n, p in adapter.items():
            p.copy_(before[n])
    save_adapter(model, HERE / "adapter-before")

    text = lines(record)[:-3]
    for name, rows in (("pairs", pairs), ("steps", steps)):
        text += f',\n "{name}": [\n' + ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]"
    (HERE / "replay.json").write_text(text + "\n}\n")
    print(record["f32_noise"])


if __name__ == "__main__":
    main()
