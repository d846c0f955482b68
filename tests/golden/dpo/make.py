"""Golden numbers of preference training: TRL's losses, and five LoRA DPO steps of a tiny LLaVA.

    python make.py          # reads ../llava_tiny/classic; writes losses.json, replay.json,
                            # adapter-before/, adapter-after/ and the pictures

The losses are those that trl.DPOTrainer._compute_loss returns: it is called as it is, on a stand-in
for the model that hands it per-token log-probabilities. README.md names the versions.
"""

import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaForConditionalGeneration
from trl import DPOTrainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "llava_tiny"))
from make import IMAGE, PIECES, draw, lines  # noqa: E402

LLAVA = HERE.parent / "llava_tiny" / "classic"
ROWS = 4  # of a picture
LINEARS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()


def trl_loss(kind, beta, log_probs, mask, reference, smoothing=0.0):
    """loss and TRL's metrics; log_probs [2N, T - 1] and mask [2N, T], chosen rows first."""
    zeros = torch.zeros_like(log_probs)
    outputs = SimpleNamespace(log_probs=log_probs, entropy=zeros, mean_logits=zeros,
                              is_top1=zeros.bool())
    metrics = {"train": defaultdict(list)}
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=lambda t: t,
                                  gather_for_metrics=lambda t: t)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=accelerator, aux_loss_enabled=False,
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl",
        loss_types=[kind], loss_weights=[1.0], beta=beta, label_smoothing=smoothing,
        use_weighting=False, _metrics=metrics, _total_train_tokens=0, _tp_size=1,
        args=SimpleNamespace(discopop_tau=0.05))
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask),
              "completion_mask": mask, "ref_chosen_logps": reference[0],
              "ref_rejected_logps": reference[1]}
    loss = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return loss, {k: v[0] for k, v in metrics["train"].items()}


def conservative(beta, log_probs, reference, smoothing):
    """cDPO, as TRL before 1.0 computed loss_type "sigmoid" with label_smoothing."""
    chosen, rejected = log_probs.sum(1).chunk(2)
    h = beta * ((chosen - reference[0]) - (rejected - reference[1]))
    return (-F.logsigmoid(h) * (1 - smoothing) - F.logsigmoid(-h) * smoothing).mean()


def losses():
    rng = np.random.default_rng(5)
    lengths = [[4, 6, 3, 9, 1], [5, 2, 8, 9, 2]]  # tokens of the chosen and of the rejected answers
    n, longest = len(lengths[0]), 12
    mask = torch.zeros(2 * n, longest, dtype=torch.long)
    for row, count in enumerate(lengths[0] + lengths[1]):
        mask[row, 3:3 + count] = 1
    logps = torch.tensor(rng.uniform(-4, -0.1, (2 * n, longest - 1)), dtype=torch.float64)
    logps = (logps * mask[:, 1:]).float()
    sums = logps.sum(1)
    reference = (sums + torch.tensor(rng.normal(0, 3, 2 * n)).float()).chunk(2)

    rows = []
    cases = [(k, 0.1, 0.0) for k in ("sigmoid", "hinge", "ipo", "sft", "robust", "nca_pair",
             "bco_pair", "sppo_hard", "apo_zero", "apo_down", "discopop", "sigmoid_norm", "aot",
             "aot_unpaired")]
    cases += [("sigmoid", 0.5, 0.0), ("hinge", 0.5, 0.0), ("ipo", 0.5, 0.0),
              ("sigmoid", 0.1, 0.2), ("robust", 0.1, 0.2), ("exo_pair", 0.1, 0.2)]
    for kind, beta, smoothing in cases:
        leaf = logps.clone().requires_grad_(True)
        conserve = kind == "sigmoid" and smoothing > 0
        if conserve:
            loss = conservative(beta, leaf, reference, smoothing)
        else:
            loss, _ = trl_loss(kind, beta, leaf, mask, reference, smoothing)
        loss.backward()
        # All tokens of an answer have one slope: the slope by the answer's sum.
        slope = [float(leaf.grad[i, 2]) for i in range(2 * n)]
        grads = leaf.grad[mask[:, 1:].bool()]
        spread = torch.tensor(slope).repeat_interleave(mask[:, 1:].sum(1))
        assert torch.allclose(grads, spread, rtol=1e-5, atol=1e-9), kind
        rows.append({"loss": kind, "beta": beta, "label_smoothing": smoothing,
                     "by": "TRL before 1.0, by formula" if conserve else "TRL",
                     "value": float(loss.detach()), "d_chosen": slope[:n], "d_rejected": slope[n:]})
    _, metrics = trl_loss("sigmoid", 0.1, logps, mask, reference)
    names = [k for k in metrics if k.startswith(("rewards/", "logps/"))]
    record = {
        "chosen": sums[:n].tolist(), "rejected": sums[n:].tolist(),
        "ref_chosen": reference[0].tolist(), "ref_rejected": reference[1].tolist(),
        "chosen_count": lengths[0], "rejected_count": lengths[1],
        "metrics_at_beta_0.1": {k: metrics[k] for k in names},
    }
    text = lines(record)[:-3] + ',\n "losses": [\n'
    text += ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]\n}\n"
    (HERE / "losses.json").write_text(text)


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
        reference = token_logps(model, batch, mask).sum(1).chunk(2)
    adamw = torch.optim.AdamW(adapter.values(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
                              weight_decay=0.0)
    steps, slopes = [], None
    for _ in range(5):
        loss, metrics = trl_loss("sigmoid", 0.1, token_logps(model, batch, mask), mask, reference)
        loss.backward()
        if slopes is None:
            slopes = {n: p.grad.clone() for n, p in adapter.items()}
        norm = torch.nn.utils.clip_grad_norm_(adapter.values(), 0.3)
        adamw.step()
        adamw.zero_grad()
        keep = {k: v for k, v in metrics.items() if k.startswith(("rewards/", "logps/"))}
        steps.append({"loss": float(loss.detach()), "grad_norm": float(norm), **keep})
    record = {
        "model": "../llava_tiny/classic", "image_token": IMAGE, "beta": 0.1, "lr": 1e-3,
        "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0, "clip": 0.3, "rank": 4, "alpha": 8,
        "ref_chosen": reference[0].tolist(), "ref_rejected": reference[1].tolist(),
        "first_grad_norms": {n.replace(".default.", "."): float(t.double().norm())
                             for n, t in sorted(slopes.items())},
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
    losses()
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
