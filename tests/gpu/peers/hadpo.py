"""HA-DPO's training step as a plain PyTorch loop: transformers' LLaVA with PEFT's LoRA of rank 128 on all seven linears,
both answers of a pair whole, padded to the longest, the picture duplicated and seen by policy and reference, activations
recomputed, the reference with the adapter off, all logits."""
import contextlib

import peft
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

VERSIONS = {"transformers": transformers.__version__, "peft": peft.__version__}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BETA = 0.1


def config(small):
    language = dict(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32064)
    vision = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
                  patch_size=14, projection_dim=768)
    if small:
        language.update(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, vocab_size=320)
        vision.update(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=56)
    token = language["vocab_size"] - 64
    return LlavaConfig(vision_config=CLIPVisionConfig(**vision), text_config=LlamaConfig(**language), image_token_index=token,
                       image_token_id=token, vision_feature_layer=-2, vision_feature_select_strategy="default")


class Loop:
    def __init__(self, device, small, own=None):
        self.device, self.config = device, own or config(small)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        with torch.device(device):
            model = LlavaForConditionalGeneration(self.config)
        torch.set_default_dtype(before)
        model.requires_grad_(False)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
        rank = 8 if small else 128
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=rf".*language_model.*\.({'|'.join(TARGETS)})")
        self.model = get_peft_model(model, lora).train()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-6)
        vision = self.config.vision_config
        self.rows = (vision.image_size // vision.patch_size) ** 2

    def batch(self, pairs):
        """Chosen answers first, then rejected ones, as TRL concatenates them."""
        token, sequences = self.config.image_token_id, []
        for side in "chosen", "rejected":
            for p in pairs:
                at = p["prompt"].index(-200)
                prompt = p["prompt"][:at] + [token] * self.rows + p["prompt"][at + 1:]
                sequences.append((prompt, p[side], p["picture"]))
        longest = max(len(a) + len(b) for a, b, _ in sequences)
        n, size = len(sequences), self.config.vision_config.image_size
        ids = torch.zeros(n, longest, dtype=torch.long)
        mask, scored = torch.zeros(n, longest, dtype=torch.long), torch.zeros(n, longest, dtype=torch.bool)
        for i, (prompt, answer, _) in enumerate(sequences):
            end = len(prompt) + len(answer)
            ids[i, :end] = torch.tensor(prompt + answer)
            mask[i, :end], scored[i, len(prompt):end] = 1, True
        pixels = torch.stack([torch.randn(3, size, size, generator=torch.Generator().manual_seed(p)) for _, _, p in sequences])
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device), "scored": scored.to(self.device),
                "pixel_values": pixels.to(self.device, torch.bfloat16)}

    def logps(self, batch):
        inputs = {k: v for k, v in batch.items() if k != "scored"}
        logits = self.model(**inputs, use_cache=False).logits[:, :-1].float()
        values = -F.cross_entropy(logits.transpose(1, 2), batch["input_ids"][:, 1:], reduction="none")
        return (values * batch["scored"][:, 1:]).sum(1).chunk(2)

    def step(self, batch):
        with torch.no_grad(), self.model.disable_adapter() if self.trained else contextlib.nullcontext():
            reference = self.logps(batch)
        chosen, rejected = self.logps(batch)
        delta = (chosen - reference[0]) - (rejected - reference[1])
        loss = -F.logsigmoid(BETA * delta).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss = loss.detach()

    def tokens(self, batch):
        return batch["input_ids"].numel()

    def flops(self, batch):
        """Of its own padded, recomputed work: what it does, not what is needed. Attention as if all keys were seen."""
        c, (n, length) = self.config.text_config, batch["input_ids"].shape
        tokens = n * length
        weights = c.num_hidden_layers * (4 * c.hidden_size**2 + 3 * c.hidden_size * c.intermediate_size)
        adapter = sum(p.numel() for p in self.trained)
        attention = 4 * c.hidden_size * c.num_hidden_layers * n * length * length / 2  # causal
        head = 2 * c.hidden_size * c.vocab_size * tokens
        passes = 3 * (2 * weights * tokens + attention) + 4 * adapter * tokens + 2 * head  # reference, policy, recomputation
        backward = (2 * weights + 4 * adapter) * tokens + 2.5 * attention + head
        v = self.config.vision_config
        rows = self.rows + 1
        tower = v.num_hidden_layers * (2 * rows * (4 * v.hidden_size**2 + 2 * v.hidden_size * v.intermediate_size)
                                       + 4 * rows * rows * v.hidden_size)
        return passes + backward + 2 * n * tower
