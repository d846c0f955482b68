"""A LoRA folder as PEFT 0.4 and LLaVA's trainer leave it: adapter_model.bin and non_lora_trainables.bin.

    pip install torch==2.0.1 transformers==4.31.0 tokenizers==0.13.3 peft==0.4.0 accelerate==0.22.0 numpy==1.26.1
    python make_adapter.py    # writes adapter04/ beside itself

It fits the language model of ../llava_tiny/classic.
"""
import json
import pathlib
import sys

import peft
import torch
import transformers

HERE = pathlib.Path(__file__).parent
OUT = HERE / "adapter04"


def summary(t):
    t = t.double().reshape(-1)
    return {"n": t.numel(), "sum": t.sum().item(), "first": t[0].item(), "last": t[-1].item()}


def main():
    torch.manual_seed(1)
    base = json.loads((HERE / "../llava_tiny/classic/config.json").read_text())
    text = base["text_config"]
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**text)).to(torch.bfloat16)
    model.name_or_path = "liuhaotian/llava-v1.5-7b"
    config = peft.LoraConfig(r=2, lora_alpha=4, lora_dropout=0.05, target_modules=["v_proj", "q_proj"],
                             task_type="CAUSAL_LM", bias="none")
    model = peft.get_peft_model(model, config).to(torch.bfloat16)
    for name, p in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(p)
    model.save_pretrained(OUT)
    (OUT / "README.md").unlink()
    wide, seen = text["hidden_size"], base["vision_config"]["hidden_size"]
    projector = {
        "base_model.model.model.mm_projector.0.weight": torch.randn(wide, seen),
        "base_model.model.model.mm_projector.0.bias": torch.randn(wide),
        "base_model.model.model.mm_projector.2.weight": torch.randn(wide, wide),
        "base_model.model.model.mm_projector.2.bias": torch.randn(wide),
    }
    torch.save({k: v.to(torch.bfloat16) for k, v in projector.items()}, OUT / "non_lora_trainables.bin")
    golden = {"versions": {"python": sys.version.split()[0], "torch": torch.__version__, "peft": peft.__version__,
                           "transformers": transformers.__version__}, "tensors": {}}
    for file in "adapter_model.bin", "non_lora_trainables.bin":
        for name, t in torch.load(OUT / file).items():
            golden["tensors"][name] = summary(t)
    (OUT / "expected.json").write_text(json.dumps(golden, indent=0) + "\n")


main()
