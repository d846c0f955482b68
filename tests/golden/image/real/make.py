"""What Pillow and the slow processors of transformers make of real pictures, before they normalise them.

    pip install "pillow==10.4.0" "transformers==4.31.0" "tokenizers==0.13.3" "numpy==1.26.1"
    python make.py          # reads ../shared/data/images beside the checkout; writes real.json beside this script
"""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import BlipImageProcessor, CLIPImageProcessor

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[4] / "shared" / "data" / "images"
FOLDERS = ["photos", "exif_orientation", "jpeg_reftest", "png_sbit", "pngsuite", "pngsuite_extra"]
BYTES = {"do_rescale": False, "do_normalize": False}


def square(image, colour=(122, 116, 104)):
    """LLaVA's expand2square, with CLIP's mean colour."""
    width, height = image.size
    side = max(width, height)
    if width == height:
        return image
    result = Image.new("RGB", (side, side), colour)
    result.paste(image, ((side - width) // 2, (side - height) // 2))
    return result


def misread(image):
    """The processors take 1 or 3 rows for the channels of an image that begins with these; Pillow does not."""
    return image.height in (1, 3)


def alone(image, side):
    assert image.height == image.width
    return np.array(image.resize((side, side), Image.BICUBIC)).transpose(2, 0, 1)


def clip(image):
    if misread(image):
        return alone(image, 336)
    processor = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}, **BYTES)
    return processor(image, return_tensors="np")["pixel_values"][0]


def blip(image):
    if misread(image):
        return alone(image, 224)
    processor = BlipImageProcessor(size={"height": 224, "width": 224}, **BYTES)
    return processor(image, return_tensors="np")["pixel_values"][0]


MODELS = {"llava": lambda image: clip(square(image)), "llava-hf": clip, "blip": blip}


def digest(pixels):
    """16 digits of the sha256 of the levels [3, H, W], one byte each."""
    levels = np.ascontiguousarray(pixels).astype(np.uint8)
    assert (levels == pixels).all()
    return hashlib.sha256(levels.tobytes()).hexdigest()[:16]


def main():
    warnings.simplefilter("ignore")
    lines = []
    for folder in FOLDERS:
        for path in sorted(p for p in (SHARED / folder).rglob("*") if p.suffix in (".jpg", ".jpeg", ".png")):
            entry = {"file": str(path.relative_to(SHARED))}
            try:
                with Image.open(path) as image:
                    entry["is"] = f"{image.format} {image.mode} {image.width}x{image.height}"
                    if image.info.get("progressive"):
                        entry["is"] += " progressive"
                    pixels = image.convert("RGB")
                entry.update({name: digest(f(pixels)) for name, f in MODELS.items()})
            except (OSError, SyntaxError, ValueError) as error:
                entry["refused"] = str(error).replace(str(SHARED), "")
            lines.append(json.dumps(entry))
    (HERE / "real.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
