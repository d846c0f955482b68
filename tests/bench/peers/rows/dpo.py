"""TRL's DPOTrainer with PEFT's LoRA on a LLaVA, its own defaults (activations recomputed, bf16, the reference with the
adapter off). Its tokenizing is passed by: both sides get the same ids; the collator duplicates pictures and pads, as
TRL's does. One call is a step over all pairs, in batches of options["batch"].
"""
import json

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

import llava

TARGETS = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
RANK = 128


class Trainer(DPOTrainer):
    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


class Collator:
    def __init__(self, config):
        self.config = config

    def __call__(self, pairs):
        sequences = [(p["prompt_ids"], p[side], p["picture"]) for side in ("chosen_ids", "rejected_ids") for p in pairs]
        longest, size = max(len(a) + len(b) for a, b, _ in sequences), self.config.vision_config.image_size
        batch = {name: torch.zeros(len(sequences), longest, dtype=torch.long)
                 for name in ("input_ids", "attention_mask", "completion_mask")}
        for i, (before, answer, _) in enumerate(sequences):
            end = len(before) + len(answer)
            batch["input_ids"][i, :end] = torch.tensor(before + answer)
            batch["attention_mask"][i, :end] = 1
            batch["completion_mask"][i, len(before):end] = 1
        batch["pixel_values"] = torch.stack([
            torch.randn(3, size, size, generator=torch.Generator().manual_seed(p)) for _, _, p in sequences]).bfloat16()
        return batch


def tokenizer():
    """Nothing is tokenized; the trainer wants one with these words."""
    words = Tokenizer(WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>",
                                   pad_token="<unk>")


def make(o):
    model = llava.new(o["folder"])
    with open(f"{o['folder']}/pairs.json") as f:
        pairs = json.load(f)
    rows = [{"prompt_ids": llava.prompt(p["prompt"], model.config), "chosen_ids": p["chosen"],
             "rejected_ids": p["rejected"], "picture": p["picture"]} for p in pairs]
    args = DPOConfig(output_dir=o["folder"] + "/trl", use_cpu=True, bf16=True, max_length=None, beta=0.1, report_to=[],
                     per_device_train_batch_size=o["batch"], save_strategy="no", disable_tqdm=True, seed=1,
                     remove_unused_columns=False)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=rf".*language_model.*\.({TARGETS})")
    trainer = Trainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer(),
                      data_collator=Collator(model.config), peft_config=lora)
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 1  # of trainer.train(), which is passed by, too
    batches = list(trainer.get_train_dataloader())

    def step():
        for batch in batches:
            trainer.training_step(trainer.model, dict(batch))
        torch.nn.utils.clip_grad_norm_([p for p in trainer.model.parameters() if p.requires_grad], 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    trainer.model.train()
    return step
