"""The lines of make.py through the slow tokenizers of transformers 4.31.0, which HA-DPO's models were made with.

    pip install torch==2.0.1 "transformers==4.31.0" "tokenizers==0.13.3" "sentencepiece==0.1.99" \\
        "protobuf==3.20.3" "numpy==1.26.1"
    python make_era.py                       # writes era.json beside this script
    python make_era.py --show KEY BLOCK      # what era.json's hash of a block stands for: line, result
"""

import json
import sys

from make import BLOCK, COUNT, HERE, SAMPLE, SHARED, Lines, bert, blocks, joined, settled
from transformers import LlamaTokenizer


def stock(path, legacy):
    """As from_pretrained leaves it: its own special strings are cut out of texts."""
    tokenizer = LlamaTokenizer(str(path), legacy=legacy)
    tokenizer.sanitize_special_tokens()
    return settled(tokenizer)


def blip(path):
    """As InstructBLIP's code changes it: strings without flags, which take the white space around them along."""
    tokenizer = LlamaTokenizer(str(path), legacy=True)
    for name, content in (("pad", "[PAD]"), ("bos", "</s>"), ("eos", "</s>"), ("unk", "</s>")):
        tokenizer.add_special_tokens({f"{name}_token": content})
    return settled(tokenizer)


def ids(tokenizer, lines, special=False):
    return [joined(tokenizer.encode(line.decode("utf-8", "replace"), add_special_tokens=special)) for line in lines]


def results(lines):
    out = {}
    for key, path in (("own_", HERE.parent / "tokenizer.model"), ("", SHARED / "llama" / "tokenizer.model")):
        out[key + "legacy"] = ids(stock(path, True), lines)
        out[key + "newer"] = ids(stock(path, False), lines)
        out[key + "blip"] = ids(blip(path), lines)
    for key, path in (("own_", HERE / "vocab.txt"), ("", SHARED / "bert" / "bert-base-uncased-vocab.txt")):
        tokenizer = bert(path)
        tokenizer.sanitize_special_tokens()
        out[key + "bert"] = ids(settled(tokenizer), lines, special=True)
    return out


def main():
    maker = Lines(1)
    lines = [maker.line() for _ in range(COUNT)]
    found = results(lines)
    if sys.argv[1:2] == ["--show"]:
        first = (int(sys.argv[3]) - 1) * BLOCK
        for i in range(first, first + BLOCK):
            print(i + 1, lines[i], found[sys.argv[2]][i])
        return
    golden = {"results": {key: blocks(values) for key, values in found.items()}}
    golden["samples"] = [{"line": i + 1, **{key: values[i] for key, values in found.items()}}
                         for i in range(0, COUNT, SAMPLE)]
    (HERE / "era.json").write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()
