"""What transformers' slow LlamaTokenizer makes of a folder's files beside tokenizer.model.

    pip install "transformers==4.46.3" "sentencepiece==0.2.3" protobuf "numpy<2"
    python make.py          # writes folders.json beside this script
"""

import json
import logging
import shutil
import tempfile
from pathlib import Path

from transformers import LlamaTokenizer

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "tokenizer.model"
logging.disable(logging.WARNING)


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, **flags}


def typed(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


NAMES = {"bos_token": token("<s>"), "eos_token": token("</s>"), "unk_token": token("<unk>")}
DECODER = {str(i): token(content, special=True) for i, content in enumerate(["<unk>", "<s>", "</s>"])}

# As the published folders have them, and some that bend the rules.
FOLDERS = {
    "nothing": {},
    "llava 1.5, original": {
        "tokenizer_config.json": {"add_bos_token": True, "bos_token": typed("<s>", normalized=True), "pad_token": None,
                                  "eos_token": typed("</s>", normalized=True), "unk_token": typed("<unk>")},
        "special_tokens_map.json": {**NAMES, "pad_token": "<unk>"}},
    "llava 1.5, hf": {
        "tokenizer_config.json": {"legacy": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                                  "pad_token": "<pad>", "additional_special_tokens": ["<image>"],
                                  "added_tokens_decoder": {**DECODER, "400": token("<image>", special=True),
                                                           "401": token("<pad>", special=True)}}},
    "llama 2 chat": {
        "tokenizer_config.json": {"legacy": False, "bos_token": typed("<s>"), "eos_token": typed("</s>"),
                                  "unk_token": typed("<unk>"), "pad_token": None},
        "special_tokens_map.json": NAMES},
    "vicuna with a pad": {
        "tokenizer_config.json": {"bos_token": typed("<s>"), "eos_token": typed("</s>"), "unk_token": typed("<unk>")},
        "special_tokens_map.json": {**NAMES, "pad_token": "[PAD]"}, "added_tokens.json": {"[PAD]": 400}},
    "instructblip": {
        "tokenizer_config.json": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"},
        "special_tokens_map.json": {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]"}},
    "plain added ones": {"added_tokens.json": {"<image>": 400, "<pad>": 401}},
    "plain added ones, newer": {"tokenizer_config.json": {"legacy": False},
                                "added_tokens.json": {"<image>": 400, "<pad>": 401}},
    "flags in the map": {
        "special_tokens_map.json": {"bos_token": token("<s>", rstrip=True), "eos_token": token("</s>", lstrip=True),
                                    "pad_token": token("<pad>", lstrip=True, rstrip=True),
                                    "additional_special_tokens": ["<image>", token("<x>", single_word=True)]}},
    "flags in the decoder": {
        "tokenizer_config.json": {"bos_token": typed("<s>", rstrip=True), "pad_token": "<pad>",
                                  "added_tokens_decoder": {**DECODER, "400": token("<pad>", rstrip=True, special=True),
                                                           "405": token("<image>", lstrip=True, special=False)}},
        "added_tokens.json": {"<x>": 410}, "special_tokens_map.json": {"pad_token": "<x>"}},
    "a fast tokenizer's list": {
        "tokenizer_config.json": {"bos_token": "<s>", "additional_special_tokens": ["<image>"]},
        "tokenizer.json": {"added_tokens": [{"id": i, **token(c, special=s)} for i, c, s in [
            (0, "<unk>", True), (1, "<s>", True), (2, "</s>", True), (400, "<image>", True), (401, "<x>", False)]]}},
    "a piece as a name": {"special_tokens_map.json": {"pad_token": "\u2581the"}},
}
TEXTS = ["<s>A dog.</s>B", " <s>  A </s>  B", "USER: <image>\nIs it? <pad> A", "a<x>b <x> c", "<image> <image>", "<pad> x", "[PAD]y",
         "x\u2581the the", "<unk>A", "a <s> <s>b", "<x>", " <image>z"]


def case(files):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL, folder)
        for name, value in files.items():
            (Path(folder) / name).write_text(json.dumps(value))
        tokenizer = LlamaTokenizer.from_pretrained(folder)
    names = {n: getattr(tokenizer, n + "_token_id") for n in ("bos", "eos", "unk", "pad")}
    out = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        shown = [i for i in ids if tokenizer.convert_ids_to_tokens([i], skip_special_tokens=True)]
        out.append({"text": text, "ids": ids, "shown": shown})
    return {"files": files, "names": names, "texts": out}


def main():
    golden = {name: case(files) for name, files in FOLDERS.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in golden.items()]
    (HERE / "folders.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
