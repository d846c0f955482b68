"""Loads what `lucid export` writes into transformers and compares logits with the goldens'.

    python tests/golden/export/check.py      in the checkout's root, after make

A weight that transformers misses, does not know or finds misshapen stops the script.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoTokenizer, InstructBlipForConditionalGeneration
from transformers import LlavaForConditionalGeneration

GOLDEN = Path(__file__).resolve().parent.parent
TINY = GOLDEN / "llava_tiny"


def export(out, **options):
    words = [w for key, value in options.items() for w in ("--" + key, str(value))]
    subprocess.run(["bin/lucid", "export", "--out", str(out), *words], check=True)
    return out


def load(model_class, folder):
    model, info = model_class.from_pretrained(folder, attn_implementation="eager",
                                              dtype=torch.float32, output_loading_info=True)
    wrong = {k: v for k, v in info.items() if v}
    assert not wrong, wrong
    return model.eval()


def compare(what, got, want):
    distance = float((got - want).norm() / want.norm())
    print(f"{what}: {distance:.1e} away")
    assert distance < 1e-4, what


def expected(path):
    facts = json.loads(path.with_name(path.name + ".expected.json").read_text())
    return facts, load_file(path.with_name(path.name + ".expected.safetensors"))


def llava(out):
    """From the original layout, whose numbers plain PyTorch made."""
    folder = export(out / "llava", model=GOLDEN / "llava_original/model",
                    vision=GOLDEN / "llava_original/clip", layout="hf")
    facts, tensors = expected(GOLDEN / "llava_original/model")
    model = load(LlavaForConditionalGeneration, folder)
    image, words = model.config.image_token_index, tensors["logits.1"].shape[1]
    for i, pair in enumerate(facts["pairs"]):
        ids = torch.tensor([pair["before"] + [image] * 4 + pair["after"] + pair["chosen"]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids),
                       pixel_values=tensors["pixels"][i:i + 1]).logits[0]
        compare(f"llava {i + 1}", logits[:, :words], tensors[f"logits.{i + 1}"])
        assert logits[:, words:].max(-1).values.lt(logits[:, :words].max(-1).values).all()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    picture = processor(Image.open(TINY / "picture.png").convert("RGB"), return_tensors="pt")
    compare("llava's picture", picture["pixel_values"][0], tensors["picture"])
    tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=False)
    assert tokenizer.convert_tokens_to_ids(["<image>", "<pad>", "</s>"]) == [image, image + 1, 2]


def instructblip(out):
    """From LAVIS's parts, likewise."""
    bridges = GOLDEN / "bridges"
    folder = export(out / "instructblip", model=bridges / "language", vision=bridges / "tower.pth",
                    bridge=bridges / "qformer.pth", layout="hf")
    facts, tensors = expected(bridges / "qformer")
    model = load(InstructBlipForConditionalGeneration, folder)
    words, rows = tensors["logits.1"].shape[1], tensors["rows"].shape[1]
    for i, pair in enumerate(facts["pairs"]):
        ids = [model.config.image_token_index] * rows
        ids = torch.tensor([pair["before"] + ids + pair["after"] + pair["chosen"]])
        text = torch.tensor([pair["text"]])
        logits = model(pixel_values=tensors["pixels"][i:i + 1], input_ids=ids,
                       attention_mask=torch.ones_like(ids), qformer_input_ids=text,
                       qformer_attention_mask=torch.ones_like(text)).logits[0]
        compare(f"instructblip {i + 1}", logits[:, :words], tensors[f"logits.{i + 1}"])


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as out, torch.no_grad():
        llava(Path(out))
        instructblip(Path(out))


if __name__ == "__main__":
    main()
