"""POPE's questions one by one, as the reference program asks them: picture, tower and prompt anew for every question.
Greedy, as many new tokens at most as our side makes. The prompts' ids are our side's.
"""
import json

import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

import llava


def make(o):
    model = LlavaForConditionalGeneration.from_pretrained(o["folder"], dtype=torch.bfloat16).eval()
    processor = CLIPImageProcessor.from_pretrained(o["folder"])
    with open(f"{o['folder']}/asked.json") as f:
        asked = json.load(f)

    def answer(q):
        picture = Image.open(f"{o['folder']}/{q['image']}").convert("RGB")
        pixels = processor(picture, return_tensors="pt")["pixel_values"].bfloat16()
        ids = torch.tensor([llava.prompt(q["ids"], model.config)])
        return model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=False,
                              max_new_tokens=o["most"], pad_token_id=0)

    def all_of_them():
        with torch.no_grad():
            for q in asked:
                answer(q)

    return all_of_them
