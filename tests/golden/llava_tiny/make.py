"""Golden numbers of two random tiny LLaVAs, from transformers' own LlavaForConditionalGeneration.

    python make.py          # writes picture.png, classic/ and rerooted/ beside this file

README.md names the versions these files were made with and what each tensor is.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlamaConfig, LlavaConfig
from transformers import LlavaForConditionalGeneration

HERE = Path(__file__).resolve().parent
PIECES = 72  # of the SentencePiece file; <image> and <pad> follow it, as in llava-hf folders
IMAGE, PAD, VOCAB = 72, 73, 76

CASES = {
    # sizes that are no multiple of 8, grouped heads, the layer before the last, tensor names and
    # config keys as the published llava-hf folders have them
    "classic": dict(
        vision=dict(hidden_size=20, intermediate_size=36, num_hidden_layers=3,
                    num_attention_heads=2, image_size=28, patch_size=14),
        text=dict(hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=5000.0),
        layer=-2, names="classic", shards=None, seed=51),
    # even sizes, as many key heads as query heads, the last layer, names and config keys as the
    # newest transformers writes them, in several files with an index
    "rerooted": dict(
        vision=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                    num_attention_heads=2, image_size=32, patch_size=8),
        text=dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=4, rms_norm_eps=1e-5, rope_theta=20000.0),
        layer=-1, names="new", shards="60KB", seed=47),
}

# What this transformers calls a tensor -> what the published llava-hf folders call it.
CLASSIC = [
    ("model.language_model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
]

WORDS = "there is a red blue green ball dog car house in the image what do you see yes no"


def draw(path, width, height, seed):
    """Edges, flat areas and noise; neither square nor a whole number of patches."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 200, width)[None, :, None] + np.linspace(-40, 40, height)[:, None, None]
    noise = rng.normal(0, 6, (height, width, 3))
    image = Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8), "RGB")
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = rng.integers(0, width - 12), rng.integers(0, height - 12)
        pen.ellipse([x, y, x + 11, y + 9], fill=tuple(int(c) for c in rng.integers(0, 256, 3)))
    image.save(path, optimize=True)


def tokenizer(path):
    """A SentencePiece file as LLaMA's: <unk> <s> </s>, BPE, without byte pieces: small."""
    corpus = HERE / "corpus.tmp"
    corpus.write_text("\n".join(["USER: " + WORDS + "? ASSISTANT: " + WORDS + "."] * 40))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(path.with_suffix("")), vocab_size=PIECES,
        model_type="bpe", normalization_rule_name="identity", pad_id=-1,
        hard_vocab_limit=True, minloglevel=2)
    path.with_suffix(".vocab").unlink()
    corpus.unlink()


def randomise(model, seed):
    """Every tensor non-trivial: no norm weight is 1 and no bias is 0."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=g)
            if name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif p.dim() == 1 and "class_embedding" not in name:
                p.copy_(1 + 0.2 * noise)  # norm weights
            elif "embed" in name and "patch" not in name:
                p.copy_(noise)
            else:
                p.copy_(noise / p[0].numel() ** 0.5)


def build(case):
    vision = CLIPVisionConfig(hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=24,
                              **case["vision"])
    text = dict(case["text"])
    theta = text.pop("rope_theta")
    text = LlamaConfig(vocab_size=VOCAB, max_position_embeddings=256, tie_word_embeddings=False,
                       bos_token_id=1, eos_token_id=2,
                       rope_parameters={"rope_type": "default", "rope_theta": theta}, **text)
    rows = (vision.image_size // vision.patch_size) ** 2
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE,
                         projector_hidden_act="gelu", vision_feature_select_strategy="default",
                         vision_feature_layer=case["layer"], image_seq_length=rows,
                         multimodal_projector_bias=True, tie_word_embeddings=False)
    config._attn_implementation = "eager"
    model = LlavaForConditionalGeneration(config).to(torch.float32).eval()
    randomise(model, case["seed"])
    return model, rows


def classic_name(name):
    for new, old in CLASSIC:
        if name.startswith(new):
            return old + name[len(new):]
    raise KeyError(name)


def save_model(model, case, folder):
    if case["names"] == "new":
        model.save_pretrained(folder, max_shard_size=case["shards"],
                              save_original_format=False)
    else:
        folder.mkdir(parents=True)
        tensors = {classic_name(n): t.contiguous() for n, t in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        text, vision = case["text"], case["vision"]
        config = {
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100, "image_token_index": IMAGE, "image_seq_length": 4,
            "model_type": "llava", "pad_token_id": PAD, "projector_hidden_act": "gelu",
            "text_config": {"architectures": ["LlamaForCausalLM"], "model_type": "llama",
                            "max_position_embeddings": 256, "torch_dtype": "float32",
                            "vocab_size": VOCAB, **text},
            "tie_word_embeddings": False, "torch_dtype": "float32",
            "transformers_version": "4.36.0",
            "vision_config": {"model_type": "clip_vision_model", "projection_dim": 24,
                              "vocab_size": 32000, **vision},
            "vision_feature_layer": case["layer"],
            "vision_feature_select_strategy": "default", "vocab_size": VOCAB,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer(folder / "tokenizer.model")
    side = case["vision"]["image_size"]
    processor = CLIPImageProcessorPil(size={"shortest_edge": side},
                                      crop_size={"height": side, "width": side})
    processor.save_pretrained(folder)
    return processor


def expected(model, processor, rows, case):
    """Numbers of one picture and one question with an answer: forward, generation, gradients."""
    rng = np.random.default_rng(case["seed"])
    picture = Image.open(HERE / "picture.png").convert("RGB")
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    before = [1] + rng.integers(3, PIECES, 4).tolist()
    after = rng.integers(3, PIECES, 7).tolist()
    answer = rng.integers(3, PIECES, 9).tolist() + [2]
    prompt = before + [IMAGE] * rows + after
    ids = torch.tensor([prompt + answer])

    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = features[case["layer"]][:, 1:]
    image_rows = model.model.multi_modal_projector(features)
    logits = model(input_ids=ids, pixel_values=pixels).logits[0]
    logps = torch.log_softmax(logits.float(), -1)
    targets = ids[0, 1:]
    token_logps = logps[:-1].gather(1, targets[:, None])[:, 0][len(prompt) - 1:]
    token_logps.sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    with torch.no_grad():
        out = model.generate(input_ids=torch.tensor([prompt]), pixel_values=pixels,
                             attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                             do_sample=False, max_new_tokens=12, pad_token_id=PAD,
                             return_dict_in_generate=True, output_logits=True)
    greedy = out.sequences[0, len(prompt):].tolist()
    top = torch.stack(out.logits)[:, 0].topk(2).values
    assert len(greedy) == 12 and 2 not in greedy, "choose another seed: the answer ended"
    assert len(set(greedy)) > 4, "choose another seed: the answer repeats itself"
    assert (top[:, 0] - top[:, 1]).min() > 1e-2, "choose another seed: a tie is near"

    name = classic_name if case["names"] == "classic" else (lambda n: n)
    tensors = {"pixel_values": pixels, "vision": features[0], "image_rows": image_rows[0],
               "logits": logits, "token_logps": token_logps}
    if case["names"] == "classic":  # the other case keeps the norms alone, to stay small
        tensors.update({"grad." + name(n): g for n, g in grads.items()})
    tensors = {n: t.detach().float().contiguous() for n, t in tensors.items()}
    facts = {
        "picture": "picture.png", "image_token": IMAGE, "rows": rows,
        "before": before, "after": after, "answer": answer, "input_ids": ids[0].tolist(),
        "greedy": greedy, "smallest_margin": round(float((top[:, 0] - top[:, 1]).min()), 4),
        "logp": float(token_logps.detach().double().sum()),
        "grad_norms": {name(n): float(g.double().norm()) for n, g in sorted(grads.items())},
        "without_grad": sorted(name(n) for n, p in model.named_parameters() if p.grad is None),
    }
    return tensors, facts


def lines(record):
    """JSON, one member a line."""
    rows = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in record.items()]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    draw(HERE / "picture.png", 53, 41, seed=3)
    for title, case in CASES.items():
        folder = HERE / title
        shutil.rmtree(folder, ignore_errors=True)
        model, rows = build(case)
        processor = save_model(model, case, folder)
        tensors, facts = expected(model, processor, rows, case)
        save_file(tensors, folder / "expected.safetensors")
        (folder / "expected.json").write_text(lines(facts))

        # What was written must be what transformers itself reads back.
        again = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
        for (n, a), (m, b) in zip(sorted(model.state_dict().items()),
                                  sorted(again.state_dict().items()), strict=True):
            assert n == m and torch.equal(a, b), n
        ids = torch.tensor([facts["input_ids"]])
        logits = again(input_ids=ids, pixel_values=tensors["pixel_values"]).logits[0]
        assert torch.equal(logits, tensors["logits"]), "the saved config does not say it all"
        for path in folder.iterdir():
            path.chmod(0o644)
        first = next(folder.glob("model*.safetensors"))
        print(title, sorted(load_file(first))[:2], facts["greedy"])


if __name__ == "__main__":
    main()
