"""Golden pictures: small files in every form that is read, and what Pillow and transformers make of them.

    pip install "pillow==10.4.0" "transformers==4.46.3" numpy
    python make.py          # writes files/ and golden.json beside this script

Pillow 10.4 resizes first across, then down; Pillow 13 takes tall pictures the other way round and
then differs by single levels. Pixels are recorded as the SHA-256 of their bytes.
"""

import hashlib
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

HERE = Path(__file__).resolve().parent
FILES = HERE / "files"
WIDTH, HEIGHT = 17, 13


def scene(height, width, channels=3):
    """A gradient with a bright disc, and noise: smooth parts and edges."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.RandomState(height * 1000 + width).randint(0, 24, (height, width, channels))
    ramp = np.stack([x * 200 // max(width - 1, 1), y * 200 // max(height - 1, 1),
                     (x + y) * 90 // max(width, height), 255 - x * 99 // width], -1)[..., :channels]
    disc = ((x - width / 3) ** 2 + (y - height / 2) ** 2 < (min(height, width) / 3) ** 2)[..., None]
    return np.clip(ramp + noise + 60 * disc, 0, 255).astype(np.uint8)


def pattern(height, width):
    """What image_spec.lua computes, too: slow slopes and hard edges."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((3 * x * x + 5 * y * y + 7 * x * y + 164 * c) // 4 % 256).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, depth, colour, extra=b"", interlaced=False):
    """A PNG by hand, for the forms that Pillow does not write. samples: [H, W, C] of u8 or big-endian u16."""
    height, width = samples.shape[:2]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = []
    for x0, y0, dx, dy in passes if interlaced else [(0, 0, 1, 1)]:
        part = samples[y0::dy, x0::dx]
        if part.size:
            rows += [b"\0" + np.ascontiguousarray(row).tobytes() for row in part]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra
            + chunk(b"IDAT", zlib.compress(b"".join(rows), 9)) + chunk(b"IEND", b""))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def without_adobe(jpeg):
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + struct.unpack(">H", jpeg[at + 2:at + 4])[0]:]


def pictures():
    rgb = scene(HEIGHT, WIDTH)
    image, four = Image.fromarray(rgb), Image.fromarray(scene(HEIGHT, WIDTH, 4), "CMYK")
    wide = (scene(HEIGHT, WIDTH).astype(np.uint16) * 257 + 13).astype(">u2")
    gray16 = (np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH, 1) * 3).astype(">u2")
    alpha = np.concatenate([rgb, rgb[..., :1]], -1)
    baseline = saved(image, "JPEG", quality=75)
    yield "baseline.jpg", baseline
    yield "full.jpg", saved(image, "JPEG", quality=95, subsampling=0)
    yield "half.jpg", saved(image, "JPEG", quality=80, subsampling=1)
    yield "progressive.jpg", saved(image, "JPEG", quality=60, progressive=True)
    yield "gray.jpg", saved(image.convert("L"), "JPEG", quality=80)
    yield "cmyk.jpg", saved(four, "JPEG", quality=80)
    yield "cmyk_plain.jpg", without_adobe(saved(four, "JPEG", quality=80))
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "turned.jpg", saved(image, "JPEG", quality=75, exif=exif)
    yield "garbage_behind.jpg", baseline + b"\0" * 40
    yield "rgb.png", saved(image, "PNG")
    yield "gray.png", saved(image.convert("L"), "PNG")
    yield "bits.png", saved(image.convert("1"), "PNG")
    yield "alpha.png", saved(Image.fromarray(alpha, "RGBA"), "PNG")
    yield "gray_alpha.png", saved(image.convert("LA"), "PNG")
    yield "palette.png", saved(image.quantize(13), "PNG")
    yield "palette_clear.png", saved(image.quantize(13), "PNG", transparency=3)
    yield "rgb_clear.png", png(rgb, 8, 2, chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[0, 0]))))
    yield "gray16.png", png(gray16, 16, 0)
    yield "rgb16.png", png(wide, 16, 2)
    yield "interlaced.png", png(rgb, 8, 2, interlaced=True)
    yield "rgb.bmp", saved(image, "BMP")
    yield "palette.gif", saved(image.quantize(13), "GIF")
    yield "rgb.ppm", saved(image, "PPM")
    yield "rgb.tga", saved(image, "TGA")


def damaged():
    files = dict(pictures())
    broken = bytearray(files["rgb.png"])
    broken[broken.index(b"IDAT") + 12] ^= 0x55
    yield "empty.jpg", b""
    yield "cut.jpg", files["baseline.jpg"][:-60]
    yield "no_end.jpg", files["baseline.jpg"][:-2]
    yield "head.jpg", files["baseline.jpg"][:30]
    yield "cut_progressive.jpg", files["progressive.jpg"][:-90]
    yield "cut.png", files["rgb.png"][:-200]
    yield "flipped.png", bytes(broken)
    yield "head.png", files["rgb.png"][:8]
    yield "cut.gif", files["palette.gif"][:20]
    yield "page.jpg", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "pointer.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "huge.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    yield "huge.bmp", files["rgb.bmp"][:18] + struct.pack("<ii", 30000, 30000) + files["rgb.bmp"][26:]


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


FILTERS = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
SIZES = [((1, 1), (1, 1)), ((1, 1), (5, 3)), ((13, 17), (13, 17)), ((13, 17), (13, 40)), ((13, 17), (5, 17)),
         ((37, 53), (24, 24)), ((53, 37), (24, 24)), ((64, 48), (97, 131)), ((200, 31), (7, 64)), ((31, 200), (64, 7)),
         ((97, 89), (96, 88)), ((120, 90), (336, 336)), ((5, 300), (9, 2)), ((240, 320), (17, 23))]


def resizes():
    for (height, width), (to_height, to_width) in SIZES:
        source = pattern(height, width)
        for name, number in FILTERS.items():
            result = np.array(Image.fromarray(source).resize((to_width, to_height), number))
            yield {"from": [height, width], "to": [to_height, to_width], "filter": name, "sha256": digest(result)}


CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
CONFIGS = {
    "clip": {"do_resize": True, "size": {"shortest_edge": 28}, "resample": 3, "do_center_crop": True,
             "crop_size": {"height": 28, "width": 28}, "do_rescale": True, "rescale_factor": 1 / 255,
             "do_normalize": True, **CLIP},
    "old": {"do_resize": True, "size": 28, "resample": 3, "do_center_crop": True, "crop_size": 28,
            "do_normalize": True, **CLIP},
    "exact": {"do_resize": True, "size": {"height": 20, "width": 20}, "resample": 2, "do_center_crop": False,
              "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False},
    "crop_only": {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 41, "width": 36},
                  "do_rescale": False, "do_normalize": True, **CLIP},
    "defaults": {},
}
PICTURES = [(40, 60), (60, 40), (33, 33), (28, 28), (31, 94), (94, 31), (9, 7), (47, 101)]


def square(image, colour):
    """LLaVA's expand2square."""
    width, height = image.size
    side = max(width, height)
    result = Image.new("RGB", (side, side), colour)
    result.paste(image, ((side - width) // 2, (side - height) // 2))
    return result


def processed():
    for name, config in CONFIGS.items():
        for pad in (False, True) if name == "clip" else (False,):
            processor = CLIPImageProcessor(**config)
            for height, width in PICTURES:
                image = Image.fromarray(pattern(height, width))
                if pad:
                    image = square(image, tuple(int(x * 255) for x in processor.image_mean))
                pixels = processor(image, return_tensors="np")["pixel_values"][0].astype(np.float32)
                yield {"config": {**config, **({"image_aspect_ratio": "pad"} if pad else {})},
                       "from": [height, width], "shape": list(pixels.shape), "sha256": digest(pixels)}


def main():
    FILES.mkdir(exist_ok=True)
    decoded = []
    for name, data in pictures():
        (FILES / name).write_bytes(data)
        pixels = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        decoded.append({"file": name, "height": pixels.shape[0], "width": pixels.shape[1], "sha256": digest(pixels)})
    for name, data in damaged():
        (FILES / name).write_bytes(data)
    golden = {"decoded": decoded, "refused": [name for name, _ in damaged()], "resized": list(resizes()),
              "processed": list(processed())}
    lines = ["{"]
    for key, entries in golden.items():
        lines.append(f'"{key}": [')
        lines.append(",\n".join(json.dumps(e) for e in entries))
        lines.append("]," if key != "processed" else "]")
    (HERE / "golden.json").write_text("\n".join(lines + ["}"]) + "\n")


if __name__ == "__main__":
    main()
