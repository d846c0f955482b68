"""Golden numbers of quantised weights: what other libraries give back, and a model made of them.

    python make.py          # writes values.safetensors and logits.safetensors beside this file

4 bits are bitsandbytes' own (its CPU backend), but for fp4's numbers that meet a threshold, where versions
differ: there version 0.41.0 holds. q8_0 is the gguf package's. The model is the tiny MiniGPT-4
of ../bridges, whose decoder weights are replaced by what these libraries give back.
"""

import json
import sys
from pathlib import Path
from statistics import NormalDist

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
BRIDGES = HERE.parent / "bridges"
sys.path.insert(0, str(BRIDGES))
from make import LLAMA, from_embeddings  # noqa: E402

KINDS = ("q8_0", "nf4", "fp4")
SHAPES = ((1,), (33,), (64,), (65,), (3, 50), (1, 40), (2, 128), (1, 1030))
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


met = 0  # fp4's numbers at thresholds


def whole_blocks(x, size):
    """[blocks, size] in f32: zeros behind the last value change no scale."""
    flat = x.float().flatten().numpy()
    return np.concatenate([flat, np.zeros(-len(flat) % size, np.float32)]).reshape(-1, size)


def at_thresholds(x, back):
    """fp4 as version 0.41.0 decides: by magnitudes and with these literals."""
    global met
    threshold = np.float32([0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333])
    level = np.float32([0, 0.005208333, 0.16666667, 0.25, 0.33333333, 0.5, 0.66666667, 1])
    blocks = whole_blocks(x.half(), 64)
    most = abs(blocks).max(1, keepdims=True)
    unit = blocks * (np.float32(1) / most)
    then = np.copysign(level[(abs(unit)[..., None] > threshold).sum(-1)] * most, unit)
    near = (abs(abs(unit)[..., None] - threshold) < 1e-6).any(-1)
    then, near = (a.reshape(-1)[:x.numel()].reshape(x.shape) for a in (then, near))
    then, back = then.astype(np.float16).astype(np.float32), back.numpy()
    assert (then == back)[~near].all()
    met += int(near.sum())
    return torch.from_numpy(np.where(near, then, back))


def four_bits(x, kind):
    packed, state = bnb.quantize_4bit(x.half(), blocksize=64, quant_type=kind,
                                      compress_statistics=False)
    back = bnb.dequantize_4bit(packed, state).float().view(x.shape)
    return at_thresholds(x, back) if kind == "fp4" else back


def eight_bits(x):
    whole = whole_blocks(x, 32)
    kind = gguf.GGMLQuantizationType.Q8_0
    back = gguf.quants.dequantize(gguf.quants.quantize(whole, kind), kind)
    return torch.from_numpy(back.reshape(-1)[:x.numel()].copy()).view(x.shape)


def quantised(x, kind):
    return eight_bits(x) if kind == "q8_0" else four_bits(x, kind)


def nf4_from_its_definition():
    """QLoRA, eq. 4: quantiles of the normal distribution, 8 above zero and 7 below, and zero itself."""
    inverse, offset = NormalDist().inv_cdf, 0.9677083
    above = [inverse(p) for p in np.linspace(offset, 0.5, 9)[:-1]]
    below = [-inverse(p) for p in np.linspace(offset, 0.5, 8)[:-1]]
    levels = np.sort([*above, *below, 0.0])
    return levels / levels.max()


def values():
    g, out = torch.Generator().manual_seed(7), {}
    for name, dtype in DTYPES.items():
        for shape in SHAPES:
            x = (0.02 * torch.randn(shape, generator=g)).to(dtype)
            case = f"{name}.{'x'.join(map(str, shape))}"
            out[f"x.{case}"] = x
            for kind in KINDS:
                y = quantised(x, kind)
                out[f"{kind}.{case}"] = y if kind == "q8_0" else y.half()  # they are halves
    return out


def logits():
    facts = json.loads((BRIDGES / "minigpt4.expected.json").read_text())
    rows = load_file(BRIDGES / "minigpt4.expected.safetensors")["rows"]
    weights, out = load_file(BRIDGES / "language" / "model.safetensors"), {}
    for kind in KINDS:
        config = LlamaConfig(**LLAMA)
        config._attn_implementation = "eager"
        model = LlamaForCausalLM(config).eval()
        model.load_state_dict({n: quantised(t, kind) if n.split(".")[-2] in LINEARS else t
                               for n, t in weights.items()})
        of = from_embeddings(model, rows)
        with torch.no_grad():
            for i, pair in enumerate(facts["pairs"]):
                out[f"{kind}.{i + 1}"] = of(pair, i, "chosen").contiguous()
    return out


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    published = bnb.get_4bit_type("nf4", device="cpu").numpy()
    print("nf4: largest distance from its definition", abs(published - nf4_from_its_definition()).max())
    save_file(values(), HERE / "values.safetensors")
    save_file(logits(), HERE / "logits.safetensors")
    print("fp4: numbers at a threshold", met)


if __name__ == "__main__":
    main()
