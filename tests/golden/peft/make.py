"""What PEFT computes with adapters that lucid saved.

    bin/lucid tests/golden/peft/make.lua && python tests/golden/peft/make.py      in the checkout's root

transformers loads ../llava_tiny/classic, PEFT the folders adapter/ and projector/ as they are. A key that PEFT does
not find or does not know stops the script.
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
    def load():
        return LlavaForConditionalGeneration.from_pretrained(BASE, attn_implementation="eager",
                                                             dtype=torch.float32)

    def adapted_by(base, name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", FutureWarning)  # of transformers about itself
            return PeftModel.from_pretrained(base, HERE / name)

    def logits(model):
        with torch.no_grad():
            return model(input_ids=ids, pixel_values=pixels,
                         attention_mask=torch.ones_like(ids)).logits[0].contiguous()

    base = load()
    plain = logits(base)
    model = adapted_by(base, "adapter")
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
    with_projector = adapted_by(load(), "projector")
    saved = load_file(HERE / "projector" / "adapter_model.safetensors")
    own = dict(with_projector.named_parameters())
    for layer in ("linear_1", "linear_2"):
        for what in ("weight", "bias"):
            at = "base_model.model.model.multi_modal_projector." + layer
            assert torch.equal(own[f"{at}.modules_to_save.default.{what}"], saved[f"{at}.{what}"]), layer
    out["logits.projector"] = logits(with_projector)
    save_file(out, HERE / "expected.safetensors")
    print({n: tuple(t.shape) for n, t in out.items()})


if __name__ == "__main__":
    main()
