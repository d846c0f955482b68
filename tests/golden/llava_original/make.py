"""Golden numbers of LLaVA-1.5's original layout at tiny random sizes.

    python make.py          # writes everything beside this file; README.md says what each file is

The tower is transformers' CLIPModel, the language model its LlamaForCausalLM; the projector and how the three
are put together are a few lines here, from the published description. What is expected is computed and
written as ../bridges/make.py does it.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bridges"))
import make as bridges  # noqa: E402

TINY = HERE.parent / "llava_tiny"
SIZE, PATCH, WIDTH, LAYERS, HEADS = 28, 14, 20, 3, 2
LLAMA = {**bridges.LLAMA, "max_position_embeddings": 512}


def clip():
    """CLIP with both its towers, as published: openai/clip-vit-large-patch14-336, but small."""
    config = CLIPConfig(
        text_config=dict(vocab_size=20, hidden_size=16, intermediate_size=20, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=8),
        vision_config=dict(hidden_size=WIDTH, intermediate_size=28, num_hidden_layers=LAYERS,
                           num_attention_heads=HEADS, image_size=SIZE, patch_size=PATCH),
        projection_dim=12)
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    bridges.randomise(model.vision_model, 21)
    names = {n: t.contiguous() for n, t in model.state_dict().items()}
    assert "vision_model.pre_layrnorm.weight" in names and "text_projection.weight" in names
    # Older versions saved these buffers, so the published file has them.
    for tower, n in (("vision", 1 + (SIZE // PATCH) ** 2), ("text", 8)):
        names[f"{tower}_model.embeddings.position_ids"] = torch.arange(n)[None]
    folder = HERE / "clip"
    folder.mkdir()
    torch.save(names, folder / "pytorch_model.bin")
    text = {"model_type": "clip_text_model", "hidden_size": 16, "num_attention_heads": 2}
    vision = {"model_type": "clip_vision_model", "hidden_size": WIDTH, "intermediate_size": 28,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_size": SIZE,
              "patch_size": PATCH, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
    write(folder / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip",
                                   "projection_dim": 12, "text_config": text,
                                   "vision_config": vision, "torch_dtype": "float32"})
    write(folder / "preprocessor_config.json", {
        "crop_size": SIZE, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": SIZE})
    return model


def write(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def halves(module):
    """Rounds a module's tensors to f16, which is how they are published; the rounded ones, named."""
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.half().float())
    return {n: t.detach().half() for n, t in module.state_dict().items()}


def language_and_projector():
    config = LlamaConfig(**LLAMA)
    config._attn_implementation = "eager"
    language = bridges.randomise(LlamaForCausalLM(config), 22)
    projector = bridges.randomise(
        nn.Sequential(nn.Linear(WIDTH, LLAMA["hidden_size"]), nn.GELU(),
                      nn.Linear(LLAMA["hidden_size"], LLAMA["hidden_size"])), 23)
    between = {f"model.mm_projector.{n}": t for n, t in halves(projector).items()}
    names = {**halves(language), **between,
             "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(5)}
    folder = HERE / "model"
    folder.mkdir()
    torch.save(between, folder / "mm_projector.bin")
    shards = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    place = {n: shards["layers.1" in n or n.startswith(("lm_head", "model.norm"))] for n in names}
    for shard in shards:
        torch.save({n: t.clone() for n, t in names.items() if place[n] == shard}, folder / shard)
    total = sum(t.numel() * t.element_size() for t in names.values())
    write(folder / "pytorch_model.bin.index.json",
          {"metadata": {"total_size": total}, "weight_map": place})
    write(folder / "config.json", {
        "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", **LLAMA,
        "hidden_act": "silu", "image_aspect_ratio": "pad", "mm_hidden_size": WIDTH,
        "mm_projector_type": "mlp2x_gelu", "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False, "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "pad_token_id": 0, "pretraining_tp": 1, "rope_scaling": None, "torch_dtype": "float16",
        "unfreeze_mm_vision_tower": False, "use_cache": True, "use_mm_proj": True})
    shutil.copy(TINY / "classic" / "tokenizer.model", folder / "tokenizer.model")
    return language, projector


def padded():
    """The picture as LLaVA hands it to the tower: on a square of CLIP's mean colour."""
    picture = Image.open(TINY / "picture.png").convert("RGB")
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE},
                                      crop_size={"height": SIZE, "width": SIZE})
    side = max(picture.size)
    colour = tuple(int(255 * x) for x in processor.image_mean)
    square = Image.new("RGB", (side, side), colour)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return processor(square, return_tensors="pt")["pixel_values"][0].contiguous()


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in ("clip", "model"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    tower, (language, projector) = clip().vision_model, language_and_projector()
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(24))
    facts = bridges.sample(np.random.default_rng(25), (0, 0), 50)
    with torch.no_grad():
        features = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        rows = projector(features)
    adapters = bridges.adapt(language, 26)
    tensors = bridges.expect(facts, pixels, features, rows,
                             bridges.from_embeddings(language, rows), adapters)
    tensors["picture"] = padded()
    bridges.HERE = HERE
    bridges.save("model", tensors, facts)
    print(facts["loss"])


if __name__ == "__main__":
    main()
