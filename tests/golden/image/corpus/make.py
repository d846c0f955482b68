"""The pixels that Pillow has for every picture of the shared corpus that it can read, hostile ones with the others.

    pip install "pillow==13.0.0" "numpy==2.4.6"
    python make.py          # reads ../shared/data/images beside the checkout; writes corpus.json beside this script
"""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[4] / "shared" / "data" / "images"


def pixels(path):
    """Width, height and hash of the picture as RGB; None where Pillow refuses it."""
    try:
        image = Image.open(path).convert("RGB")
    except Exception:  # whatever a decoder raises on hostile bytes
        return None
    digest = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
    return f"{image.width}x{image.height} {digest[:16]}"


warnings.simplefilter("ignore")
found = {str(p.relative_to(SHARED)): pixels(p) for p in sorted(SHARED.rglob("*")) if p.is_file()}
text = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items() if v)
(HERE / "corpus.json").write_text("{\n" + text + "\n}\n")
