"""Pillow and the reference's processor of CLIP (the one that uses Pillow), in two worker processes of torch's loader."""
import os

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPImageProcessorPil

WORKERS = 2


class Pictures(Dataset):
    def __init__(self, folder, names):
        self.paths = [os.path.join(folder, name) for name in names]
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.processor(Image.open(self.paths[i]).convert("RGB"), return_tensors="pt")["pixel_values"][0]


def one_thread(_):
    torch.set_num_threads(1)


def make(o):
    loader = DataLoader(Pictures(o["folder"], o["pictures"]), batch_size=8, num_workers=WORKERS,
                        persistent_workers=True, worker_init_fn=one_thread)

    def all_of_them():
        for _ in loader:
            pass

    return all_of_them
