"""A LLaVA of random weights from the config.json that our side wrote."""
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration


def new(folder):
    config = LlavaConfig.from_pretrained(folder)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    model = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(before)
    return model


def prompt(ids, config):
    """Our ids with the picture's token as often as it has rows."""
    v = config.vision_config
    at = ids.index(-200)
    return ids[:at] + [config.image_token_id] * (v.image_size // v.patch_size) ** 2 + ids[at + 1:]
