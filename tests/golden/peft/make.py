"""What PEFT computes with an adapter that lucid saved.

    bin/lucid tests/golden/peft/make.lua && python tests/golden/peft/make.py      in the checkout's root

transformers loads ../llava_tiny/classic, PEFT the folder adapter/ as it is. A key that PEFT does not find or does
not know stops the script.
"""

import json
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlavaForConditionalGeneration

HERE = Path(__file__).resolve().parent
BASE = HERE.parent / "llava_tiny" / "classic"
LAYERS = ("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj")


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    facts = json.loads((BASE / "expected.json").read_text())
    pixels = load_file(BASE / "expected.safetensors")["pixel_values"]
    ids = torch.tensor([facts["input_ids"]])
    base = LlavaForConditionalGeneration.from_pretrained(BASE, attn_implementation="eager",
                                                         dtype=torch.float32)

    def logits(model):
        with torch.no_grad():
            return model(input_ids=ids, pixel_values=pixels,
                         attention_mask=torch.ones_like(ids)).logits[0].contiguous()

    plain = logits(base)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", FutureWarning)  # of transformers about itself
        model = PeftModel.from_pretrained(base, HERE / "adapter")
    adapted = [n for n, _ in model.named_modules() if n.endswith("lora_A.default")]
    assert len(adapted) == 14 and all("language_model" in n for n in adapted), adapted
    out = {"logits": logits(model)}
    assert (out["logits"] - plain).norm() > 0.1 * plain.norm(), "the adapter changes nothing"
    whole = model.merge_and_unload()
    for name, p in whole.named_parameters():
        for layer in LAYERS:
            if "language_model" in name and name.endswith(layer + ".weight"):
                out["merged." + layer] = p.detach().contiguous()
    assert len(out) == 1 + len(LAYERS)
    save_file(out, HERE / "expected.safetensors")
    print({n: tuple(t.shape) for n, t in out.items()})


if __name__ == "__main__":
    main()
