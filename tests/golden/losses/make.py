"""Golden numbers of TRL's preference losses: values, slopes and logged metrics.

    python make.py          # writes losses.json

The losses are those that trl.DPOTrainer._compute_loss returns: it is called as it is, on a stand-in
for the model that hands it per-token log-probabilities. README.md names the versions.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from trl import DPOTrainer

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "llava_tiny"))
from make import lines  # noqa: E402

LENGTHS = [[4, 6, 3, 9, 1], [5, 2, 8, 9, 2]]  # tokens of the chosen and of the rejected answers
N = len(LENGTHS[0])
DEFAULTS = {"beta": 0.1, "label_smoothing": 0.0, "f_divergence_type": "reverse_kl",
            "f_alpha_divergence_coef": 0.5, "ld_alpha": None, "use_weighting": False,
            "discopop_tau": 0.05}


def trl_loss(terms, log_probs, mask, reference, log_squares=None, **options):
    """loss and TRL's metrics. terms {name: weight}; log_probs and reference [2N, T - 1] and mask
    [2N, T], chosen rows first."""
    opt = DEFAULTS | options
    zeros = torch.zeros_like(log_probs)
    metrics = {"train": defaultdict(list)}
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=lambda t: t,
                                  gather_for_metrics=lambda t: t)

    def model(table):
        return lambda **_: SimpleNamespace(log_probs=table, entropy=zeros, mean_logits=zeros,
                                           is_top1=zeros.bool(), log_sum_sq_probs=log_squares)

    policy = torch.nn.Module()  # what is asked of it but a pass: whether it trains
    policy.is_gradient_checkpointing = False
    tau = opt.pop("discopop_tau")
    trainer = SimpleNamespace(
        model=policy, ref_model=model(reference), accelerator=accelerator,
        precompute_ref_logps=False,
        aux_loss_enabled=False, loss_types=list(terms), loss_weights=list(terms.values()),
        _metrics=metrics, _total_train_tokens=0, _tp_size=1, **opt,
        args=SimpleNamespace(discopop_tau=tau, gradient_checkpointing_kwargs=None))
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask),
              "completion_mask": mask}
    loss = DPOTrainer._compute_loss(trainer, model(log_probs), inputs, False)
    return loss, {k: v[0] for k, v in metrics["train"].items()}


def before_1(terms, log_probs, mask, reference, **options):
    """What TRL had before 1.0 and has no more, by its formulas: cDPO (sigmoid with label_smoothing)
    and bco_pair with the running mean, here of the first batch."""
    opt = DEFAULTS | options
    chosen, rejected = log_probs.sum(1).chunk(2)
    a, b = (s.sum(1) for s in reference.chunk(2))
    chosen, rejected = opt["beta"] * (chosen - a), opt["beta"] * (rejected - b)
    if "sigmoid" in terms:
        h, e = chosen - rejected, opt["label_smoothing"]
        return (-F.logsigmoid(h) * (1 - e) - F.logsigmoid(-h) * e).mean(), {}
    shift = torch.cat((chosen, rejected)).mean().detach()
    return (-F.logsigmoid(chosen - shift) - F.logsigmoid(-(rejected - shift))).mean(), {}


def cases():
    """(terms, options, what computes them)"""
    plain = ["sigmoid", "hinge", "ipo", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
             "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"]
    smoothed = ["robust", "exo_pair", "aot", "aot_unpaired"]
    scored = ["sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"]
    mpo = {"sigmoid": 0.8, "bco_pair": 0.2, "sft": 1.0}
    smooth = {"exo_pair": {"label_smoothing": 1e-3}}
    for beta in (0.1, 0.5):
        for name in plain:
            yield {name: 1.0}, {"beta": beta}, trl_loss
        for name in smoothed:
            yield {name: 1.0}, {"beta": beta, "label_smoothing": 0.2}, trl_loss
    yield {"exo_pair": 1.0}, smooth["exo_pair"], trl_loss
    yield {"discopop": 1.0}, {"discopop_tau": 0.5}, trl_loss
    yield mpo, {}, trl_loss
    yield {"robust": 0.5, "hinge": 0.25}, {"label_smoothing": 0.1, "ld_alpha": 0.25}, trl_loss
    for name in scored:
        for kind, alpha in (("forward_kl", 0.5), ("js_divergence", 0.5), ("alpha_divergence", 0.5),
                            ("alpha_divergence", 1.0), ("alpha_divergence", 1.5)):
            yield {name: 1.0}, {"f_divergence_type": kind, "f_alpha_divergence_coef": alpha,
                                **smooth.get(name, {})}, trl_loss
    for name in plain + ["exo_pair"]:
        yield {name: 1.0}, {"ld_alpha": 0.4, **smooth.get(name, {})}, trl_loss
        # TRL 1.16 fails at hinge (an output of relu is multiplied in place) and sft (an expanded one).
        if name not in ("aot", "aot_unpaired", "hinge", "sft"):
            yield {name: 1.0}, {"use_weighting": True, **smooth.get(name, {})}, trl_loss
    yield {"sigmoid": 0.8, "bco_pair": 0.2}, {"use_weighting": True, "ld_alpha": 0.0}, trl_loss
    yield {"sigmoid": 1.0}, {"label_smoothing": 0.2}, before_1
    yield {"bco_pair": 1.0}, {"bco_shift": "running"}, before_1


def batch():
    """mask [2N, T], and by token the policy, the reference and the log of the summed squares."""
    rng = np.random.default_rng(5)
    longest = 12
    mask = torch.zeros(2 * N, longest, dtype=torch.long)
    for row, count in enumerate(LENGTHS[0] + LENGTHS[1]):
        mask[row, 3:3 + count] = 1
    seen = mask[:, 1:]
    policy = torch.tensor(rng.uniform(-4, -0.1, seen.shape)).float() * seen
    moved = torch.tensor(rng.normal(0, 0.8, seen.shape)).float() * seen
    squares = torch.tensor(rng.uniform(-4, -0.1, seen.shape)).float() * seen
    return mask, policy, policy + moved, squares


def by_answer(table, mask):
    """Chosen 1, rejected 1, chosen 2, ...: a list a token each."""
    order = [row for i in range(N) for row in (i, N + i)]
    return [table[row][mask[row, 1:].bool()].tolist() for row in order]


def slopes(grad, mask):
    """A slope an answer where all its tokens have the same one, else a list a token."""
    answers = by_answer(grad, mask)
    if all(np.allclose(a, a[0], rtol=1e-6, atol=1e-12) for a in answers):
        return [a[0] for a in answers]
    return answers


def main():
    torch.set_num_threads(1)
    mask, policy, reference, squares = batch()
    rows, base = [], None
    for terms, options, compute in cases():
        leaf = policy.clone().requires_grad_(True)
        settings = {k: v for k, v in options.items() if k != "bco_shift"}
        if compute is trl_loss:
            settings["log_squares"] = squares
        loss, metrics = compute(terms, leaf, mask, reference, **settings)
        loss.backward()
        if "bco_pair" in terms and compute is trl_loss:
            options = {**options, "bco_shift": "none"}
        metrics = {k: v for k, v in metrics.items() if k.startswith(("rewards/", "logps/"))}
        row = {"loss": ",".join(f"{k}:{v:g}" if v != 1 or len(terms) > 1 else k
                                for k, v in terms.items()),
               "options": options, "by": "TRL" if compute is trl_loss else "TRL before 1.0",
               "value": loss.item(), "slope": slopes(leaf.grad, mask)}
        if metrics and ("ld_alpha" in options or "beta" in options):
            row["metrics"] = metrics
        rows.append(row)
    record = {"chosen_count": LENGTHS[0], "rejected_count": LENGTHS[1],
              "tokens": by_answer(policy, mask), "reference": by_answer(reference, mask),
              "log_squares": by_answer(squares, mask)}
    text = lines(record)[:-3] + ',\n "losses": [\n'
    text += ",\n".join("  " + json.dumps(r) for r in rows) + "\n ]\n}\n"
    (HERE / "losses.json").write_text(text)


if __name__ == "__main__":
    main()
