"""Golden numbers of MiniGPT-4 and InstructBLIP at tiny random sizes.

    python make.py          # writes everything beside this file; README.md says what each file is

The tower and the two bridges are plain PyTorch, written from the published descriptions and using the
tensor names of LAVIS; the language model is transformers' LlamaForCausalLM. The folder instructblip/ is
transformers' own InstructBlipForConditionalGeneration, so there the whole graph is somebody else's.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import BlipImageProcessorPil, InstructBlipConfig
from transformers import InstructBlipForConditionalGeneration, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "llava_tiny" / "picture.png"
VOCAB, BETA, RANK, ALPHA = 72, 0.5, 3, 6.0
TARGETS = ("q_proj", "k_proj", "v_proj")


# ---- tower ---------------------------------------------------------------------------------------


class EvaAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        n, t, w = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).view(n, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q * (w // self.heads) ** -0.5) @ k.transpose(-2, -1)
        return self.proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(n, t, w))


class EvaBlock(nn.Module):
    def __init__(self, width, mlp, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = EvaAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, mlp), "fc2": nn.Linear(mlp, width)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Eva(nn.Module):
    def __init__(self, width, mlp, heads, layers, size, patch):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList(EvaBlock(width, mlp, heads) for _ in range(layers))

    def forward(self, pixels):
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(len(pixels), -1, -1)
        x = torch.cat([first, patches], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


# ---- bridges -------------------------------------------------------------------------------------


class Joined(nn.Module):
    """Four patches in a row of the language model; the norm before has no weights."""

    def __init__(self, width, out):
        super().__init__()
        self.llama_proj = nn.Linear(4 * width, out)

    def forward(self, features, text=None):
        x = F.layer_norm(features, features.shape[-1:], eps=1e-5)[:, 1:]
        return self.llama_proj(x.reshape(len(x), x.shape[1] // 4, -1))


def child(**modules):
    return nn.ModuleDict(modules)


def dense(width, inside):
    return child(dense=nn.Linear(inside, width), LayerNorm=nn.LayerNorm(width, eps=1e-12))


class QFormer(nn.Module):
    """BERT with queries beside the text, under LAVIS's names: state_dict() needs the prefixes below."""

    def __init__(self, width, mlp, heads, layers, vocabulary, positions, queries, seen, out):
        super().__init__()
        self.heads = heads
        self.query_tokens = nn.Parameter(torch.zeros(1, queries, width))
        self.ln_vision = nn.LayerNorm(seen)
        self.embeddings = child(word_embeddings=nn.Embedding(vocabulary, width),
                                position_embeddings=nn.Embedding(positions, width),
                                LayerNorm=nn.LayerNorm(width, eps=1e-12))

        def attention(keys):
            linears = child(query=nn.Linear(width, width), key=nn.Linear(keys, width),
                            value=nn.Linear(keys, width))
            return nn.ModuleDict([["self", linears], ["output", dense(width, width)]])

        def layer(i):
            block = child(attention=attention(width), output=dense(width, mlp),
                          intermediate=child(dense=nn.Linear(width, mlp)),
                          output_query=dense(width, mlp),
                          intermediate_query=child(dense=nn.Linear(width, mlp)))
            if i % 2 == 0:
                block["crossattention"] = attention(seen)
            return block

        self.layer = nn.ModuleList(layer(i) for i in range(layers))
        self.llm_proj = nn.Linear(width, out)

    @staticmethod
    def published_name(name):
        if name.startswith("embeddings."):
            return "Qformer.bert." + name
        return "Qformer.bert.encoder." + name if name.startswith("layer.") else name

    def attend(self, a, x, seen):
        def split(y):
            return y.view(len(y), self.heads, -1).transpose(0, 1)
        own = a["self"]
        q, k, v = split(own["query"](x)), split(own["key"](seen)), split(own["value"](seen))
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        y = (weights @ v).transpose(0, 1).reshape(len(x), -1)
        return self.close(a["output"], y, x)

    @staticmethod
    def close(output, y, x):
        return output["LayerNorm"](x + output["dense"](y))

    def feed(self, b, x, end=""):
        inside = F.gelu(b["intermediate" + end]["dense"](x))
        return self.close(b["output" + end], inside, x)

    def one(self, seen, text):
        e = self.embeddings
        words = e["word_embeddings"](text) + e["position_embeddings"](torch.arange(len(text)))
        x = e["LayerNorm"](torch.cat([self.query_tokens[0], words]))
        n = self.query_tokens.shape[1]
        for b in self.layer:
            x = self.attend(b["attention"], x, x)
            q = x[:n]
            if "crossattention" in b:
                q = self.attend(b["crossattention"], q, seen)
            x = torch.cat([self.feed(b, q, "_query"), self.feed(b, x[n:])])
        return self.llm_proj(x[:n])

    def forward(self, features, text):
        rows = [self.one(f, torch.tensor(t, dtype=torch.long))
                for f, t in zip(self.ln_vision(features), text, strict=True)]
        return torch.stack(rows)


# ---- the language model ---------------------------------------------------------------------------


class Adapted(nn.Module):
    """A linear layer with LoRA beside it, which can be switched off."""

    on = True

    def __init__(self, base, generator):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(0.3 * torch.randn(RANK, base.in_features, generator=generator))
        self.b = nn.Parameter(0.3 * torch.randn(base.out_features, RANK, generator=generator))

    def forward(self, x):
        y = self.base(x)
        return y + ALPHA / RANK * F.linear(F.linear(x, self.a), self.b) if Adapted.on else y


def adapt(model, seed):
    """Adapters on the targets: name -> module."""
    g, found = torch.Generator().manual_seed(seed), {}
    for name, module in sorted(model.named_modules()):
        if name.rsplit(".", 1)[-1] in TARGETS:
            parent = model.get_submodule(name.rsplit(".", 1)[0])
            found[name] = Adapted(module, g)
            setattr(parent, name.rsplit(".", 1)[-1], found[name])
    return found


def randomise(model, seed):
    """Every tensor non-trivial: no norm weight is 1 and no bias is 0."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=g)
            if name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif p.dim() == 1:
                p.copy_(1 + 0.2 * noise)
            elif "embed" in name and "patch" not in name or "_token" in name:
                p.copy_(0.7 * noise)
            else:
                p.copy_(noise / p[0].numel() ** 0.5)
    return model.eval()


LLAMA = dict(hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, rms_norm_eps=1e-6, vocab_size=VOCAB, max_position_embeddings=128,
             tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)


# ---- what is expected --------------------------------------------------------------------------------


def sample(rng, texts, vocabulary):
    """Two pictures, a pair of answers about each."""
    pairs = [{"before": [1] + rng.integers(3, VOCAB, 2 + i).tolist(),
              "after": rng.integers(3, VOCAB, 3 + 2 * i).tolist(),
              "text": rng.integers(3, vocabulary, texts[i]).tolist(),
              "chosen": rng.integers(3, VOCAB, 4 + i).tolist() + [2],
              "rejected": rng.integers(3, VOCAB, 6 - i).tolist() + [2]} for i in range(2)]
    return {"beta": BETA, "rank": RANK, "alpha": ALPHA, "targets": list(TARGETS), "pairs": pairs}


def from_embeddings(language, rows):
    """Logits of an answer after its prompt, the bridge's rows put between the prompt's embeddings."""
    words = language.get_input_embeddings()

    def logits(pair, i, answer):
        ids = [words(torch.tensor(pair[k])) for k in ("before", "after", answer)]
        return language(inputs_embeds=torch.cat([ids[0], rows[i], *ids[1:]])[None]).logits[0]
    return logits


def expect(facts, pixels, features, rows, logits, adapters, parameters=()):
    """Logits of the chosen rows with the adapters off, the pairs' log-probabilities, the preference
    loss with the adapters off as its reference, and its gradient by every adapter. Of parameters the
    norm of the first chosen answer's gradient, adapters off."""
    def logp(pair, i, answer):
        targets = torch.tensor(pair[answer])
        scores = torch.log_softmax(logits(pair, i, answer), -1)[-len(targets) - 1:-1]
        return scores.gather(1, targets[:, None]).sum()

    pairs, tensors = facts["pairs"], {"pixels": pixels, "features": features, "rows": rows}
    Adapted.on = False
    with torch.no_grad():
        for i, pair in enumerate(pairs):
            tensors[f"logits.{i + 1}"] = logits(pair, i, "chosen")
        reference = [[logp(p, i, k) for k in ("chosen", "rejected")] for i, p in enumerate(pairs)]
    if parameters:
        logp(pairs[0], 0, "chosen").backward()
        facts["grad_norms"] = {n: float(p.grad.double().norm()) for n, p in parameters
                               if p.grad is not None}
    Adapted.on = True
    policy = [[logp(p, i, k) for k in ("chosen", "rejected")] for i, p in enumerate(pairs)]
    margins = [(pc - pr) - (rc - rr)
               for (pc, pr), (rc, rr) in zip(policy, reference, strict=True)]
    loss = -F.logsigmoid(BETA * torch.stack(margins)).mean()
    loss.backward()
    facts["reference"] = [[x.item() for x in row] for row in reference]
    facts["policy"] = [[x.item() for x in row] for row in policy]
    facts["loss"] = loss.item()
    for name, adapter in adapters.items():
        for letter, p in (("A", adapter.a), ("B", adapter.b)):
            tensors[f"lora.{name}.lora_{letter}.weight"] = p
            tensors[f"grad.{name}.lora_{letter}.weight"] = p.grad
    return {n: t.detach().float().contiguous() for n, t in tensors.items()}


def save(name, tensors, facts):
    save_file(tensors, HERE / f"{name}.expected.safetensors")
    rows = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in facts.items()]
    (HERE / f"{name}.expected.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


def dump(path, tensors):
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, path,
              metadata={"format": "pt"})


def run_of(weights):
    """What a training run of LAVIS saves: the weights are one entry of several."""
    first = next(iter(weights.values()))
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    groups = [{"lr": 1e-5, "betas": (0.9, 0.999), "weight_decay": 0.05, "params": [0]}]
    return {"model": {n: t.clone() for n, t in weights.items()},
            "optimizer": {"state": {0: moments}, "param_groups": groups},
            "config": {"run": {"amp": True, "seed": 42}, "dtype": str(first.dtype)},
            "scaler": {"scale": 65536.0, "growth_interval": 2000}, "epoch": 3}


# ---- from parts -----------------------------------------------------------------------------------------


def from_parts():
    tower = randomise(Eva(width=32, mlp=44, heads=16, layers=2, size=16, patch=4), 1)
    joined = randomise(Joined(32, LLAMA["hidden_size"]), 2)
    qformer = randomise(QFormer(width=24, mlp=36, heads=12, layers=3, vocabulary=50, positions=16,
                                queries=5, seen=32, out=LLAMA["hidden_size"]), 3)
    config = LlamaConfig(**LLAMA)
    config._attn_implementation = "eager"
    language = randomise(LlamaForCausalLM(config), 4)

    folder = HERE / "language"
    folder.mkdir()
    dump(folder / "model.safetensors", language.state_dict())
    (folder / "config.json").write_text(json.dumps(
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
         **LLAMA}, indent=2) + "\n")
    # The published file goes on after the 39th block, which is the last one in use.
    beyond = {"blocks.39.norm1.weight": torch.ones(32), "norm.weight": torch.ones(32),
              "head.bias": torch.zeros(1)}
    halves = {n: t.half() for n, t in {**tower.state_dict(), **beyond}.items()}
    tower.load_state_dict({n: t.float() for n, t in halves.items()}, strict=False)
    torch.save(halves, HERE / "tower.pth")
    torch.save(run_of(joined.state_dict()), HERE / "joined.pth")
    names = {QFormer.published_name(n): t for n, t in qformer.state_dict().items()}
    torch.save(run_of(names), HERE / "qformer.pth")

    adapters = adapt(language, 5)
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    for name, bridge, texts in (("minigpt4", joined, (0, 0)), ("qformer", qformer, (7, 3))):
        facts = sample(np.random.default_rng(len(name)), texts, 50)
        with torch.no_grad():
            features = tower(pixels)
            rows = bridge(features, [p["text"] for p in facts["pairs"]])
            silent = None if bridge is joined else bridge(features[:1], [[]])[0]
        language.zero_grad()
        tensors = expect(facts, pixels, features, rows, from_embeddings(language, rows), adapters)
        if silent is not None:
            tensors["rows_without_text"] = silent
        save(name, tensors, facts)
        print(name, facts["loss"])


# ---- whole --------------------------------------------------------------------------------------------------


def whole():
    """transformers' InstructBLIP, saved by itself."""
    image = VOCAB - 1
    config = InstructBlipConfig(
        vision_config=dict(hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                           num_attention_heads=3, image_size=15, patch_size=5),
        qformer_config=dict(hidden_size=20, intermediate_size=28, num_hidden_layers=3,
                            num_attention_heads=2, encoder_hidden_size=24, vocab_size=40,
                            max_position_embeddings=12),
        text_config=LlamaConfig(**LLAMA), num_query_tokens=4, image_token_index=image)
    config._attn_implementation = "eager"
    model = randomise(InstructBlipForConditionalGeneration(config).float(), 11)
    folder = HERE / "instructblip"
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    processor = BlipImageProcessorPil(size={"height": 15, "width": 15})
    processor.save_pretrained(folder)
    picture = processor(Image.open(PICTURE).convert("RGB"), return_tensors="pt")["pixel_values"]
    for path in folder.iterdir():
        path.chmod(0o644)

    pixels = torch.randn(2, 3, 15, 15, generator=torch.Generator().manual_seed(12))
    facts = sample(np.random.default_rng(13), (6, 2), 40)
    parameters = list(model.named_parameters())
    adapters = adapt(model, 14)
    kept = {}
    model.vision_model.encoder.register_forward_hook(
        lambda m, args, out: kept.__setitem__("features", out.last_hidden_state))
    model.language_projection.register_forward_hook(
        lambda m, args, out: kept.__setitem__("rows", out))

    def given(pair, i, ids):
        ids, text = torch.tensor([ids]), torch.tensor([pair["text"]])
        return dict(pixel_values=pixels[i:i + 1], qformer_input_ids=text, input_ids=ids,
                    qformer_attention_mask=torch.ones_like(text),
                    attention_mask=torch.ones_like(ids))

    def prompt(pair):
        return pair["before"] + [image] * 4 + pair["after"]

    def logits(pair, i, answer):
        return model(**given(pair, i, prompt(pair) + pair[answer])).logits[0]

    with torch.no_grad():
        seen = [(logits(p, i, "chosen"), kept["features"], kept["rows"])
                for i, p in enumerate(facts["pairs"])]
        features, rows = (torch.cat([x[k] for x in seen]) for k in (1, 2))
        Adapted.on = False
        out = model.generate(**given(facts["pairs"][0], 0, prompt(facts["pairs"][0])),
                             do_sample=False, max_new_tokens=8, min_new_tokens=8,
                             return_dict_in_generate=True, output_logits=True)
    facts["greedy"] = out.sequences[0, -8:].tolist()
    top = torch.stack(out.logits)[:, 0].topk(2).values
    assert 2 not in facts["greedy"] and len(set(facts["greedy"])) > 3, "choose another seed"
    assert (top[:, 0] - top[:, 1]).min() > 1e-2, "choose another seed: a tie is near"
    tensors = expect(facts, pixels, features, rows, logits, adapters, parameters)
    tensors["picture"] = picture[0].contiguous()
    save("instructblip", tensors, facts)
    print("instructblip", facts["loss"], facts["greedy"])


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in ("language", "instructblip"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    from_parts()
    whole()


if __name__ == "__main__":
    main()
