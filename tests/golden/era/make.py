"""Golden numbers of the era of HA-DPO's models: LlamaForCausalLM of transformers 4.31.0 and an adapter that PEFT
0.4.0 wrote, behind the picture rows of ../bridges (MiniGPT-4).

    pip install torch==2.0.1 transformers==4.31.0 tokenizers==0.13.3 peft==0.4.0 accelerate==0.22.0 \\
        numpy==1.26.1 safetensors
    python make.py          # reads ../bridges; writes language/, adapter/ and expected.* beside this script
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
BRIDGES = HERE.parent / "bridges"
VOCAB, BETA = 72, 0.5
LLAMA = dict(hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
             rms_norm_eps=1e-5, vocab_size=VOCAB, max_position_embeddings=128, tie_word_embeddings=False,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)


def base():
    """A random model, as the published ones in halves and in two parts with an index."""
    torch.manual_seed(31)
    model = LlamaForCausalLM(LlamaConfig(**LLAMA))
    g = torch.Generator().manual_seed(32)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=g)
            p.copy_(1 + 0.2 * noise if p.dim() == 1 else 0.7 * noise if "embed" in name else noise / p.shape[1] ** 0.5)
    model.half().save_pretrained(HERE / "language", max_shard_size="40KB")
    return LlamaForCausalLM.from_pretrained(HERE / "language", torch_dtype=torch.float32).eval()


def adapted(model):
    """As HA-DPO configures MiniGPT-4's adapter; PEFT begins with B = 0, here it is random. The adapter
    is small beside the weights, as trained ones are: with a large one PyTorch itself is 5e-2 away in bf16."""
    model = get_peft_model(model, LoraConfig(r=3, lora_alpha=6, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM",
                                             target_modules=["q_proj", "k_proj", "v_proj"]))
    g = torch.Generator().manual_seed(33)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            if "lora_" in name:
                p.copy_(0.1 * torch.randn(p.shape, generator=g))
    model.save_pretrained(HERE / "adapter")
    (HERE / "adapter" / "README.md").unlink()
    config = HERE / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(HERE / "language"), "meta-llama/Llama-2-7b-chat-hf") + "\n")


def pairs_of():
    rng = np.random.default_rng(34)

    def some(n):
        return rng.integers(3, VOCAB, n).tolist()
    return [{"before": [1] + some(2 + i), "after": some(4 - i), "chosen": some(5 + i) + [2],
             "rejected": some(7 - 2 * i) + [2]} for i in range(2)]


def logits(model, rows, pair, answer):
    words = model.get_input_embeddings()
    ids = [words(torch.tensor(pair[k])) for k in ("before", "after", answer)]
    return model(inputs_embeds=torch.cat([ids[0], rows, *ids[1:]])[None]).logits[0]


def logp(model, rows, pair, answer):
    targets = torch.tensor(pair[answer])
    scores = torch.log_softmax(logits(model, rows, pair, answer), -1)[-len(targets) - 1:-1]
    return scores.gather(1, targets[:, None]).sum()


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in ("language", "adapter"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    adapted(base())
    plain = LlamaForCausalLM.from_pretrained(HERE / "language", torch_dtype=torch.float32).eval()
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(HERE / "language", torch_dtype=torch.float32),
                                      HERE / "adapter", is_trainable=True).eval()
    rows, pairs, tensors = load_file(BRIDGES / "minigpt4.expected.safetensors")["rows"], pairs_of(), {}
    margins = []
    for i, pair in enumerate(pairs):
        with torch.no_grad():
            tensors[f"base.{i + 1}"] = logits(plain, rows[i], pair, "chosen")
            tensors[f"adapter.{i + 1}"] = logits(model, rows[i], pair, "chosen")
            reference = [logp(plain, rows[i], pair, k) for k in ("chosen", "rejected")]
        policy = [logp(model, rows[i], pair, k) for k in ("chosen", "rejected")]
        margins.append((policy[0] - policy[1]) - (reference[0] - reference[1]))
    loss = -F.logsigmoid(BETA * torch.stack(margins)).mean()
    loss.backward()
    for name, p in model.named_parameters():
        if p.requires_grad:
            tensors["grad." + name.replace(".default.", ".")] = p.grad
    save_file({n: t.contiguous() for n, t in tensors.items()}, HERE / "expected.safetensors")
    facts = {"beta": BETA, "loss": loss.item(), "pairs": pairs}
    (HERE / "expected.json").write_text(json.dumps(facts) + "\n")
    (HERE / "expected.safetensors").chmod(0o644)
    print(loss.item(), len(tensors))


if __name__ == "__main__":
    main()
