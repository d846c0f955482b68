"""Golden tokens of many lines: LlamaTokenizer (slow; legacy and not) and BertTokenizer, each with a small
vocabulary of ours and with the published one.

    pip install "transformers==4.46.3" "sentencepiece==0.2.3" protobuf "numpy<2"
    python make.py                       # writes vocab.txt and lines.json beside this script
    python make.py --show KEY BLOCK      # what lines.json's hash of a block stands for: line, result

The lines are made of texts.json by a rule that tests/spec/tokenizer_lines_spec.lua has, too (Lines below):
so they need not be stored. They are bytes; a tokenizer reads them as decode(errors="replace").
"""

import argparse
import hashlib
import json
import logging
from pathlib import Path

from transformers import AddedToken, BertTokenizer, LlamaTokenizer

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[4] / "shared" / "data" / "tokenizer"
COUNT, BLOCK, SAMPLE = 20000, 100, 1250
logging.disable(logging.WARNING)


class Lines:
    """A linear congruential generator and what it makes of texts.json."""

    def __init__(self, seed):
        texts = json.loads((HERE / "texts.json").read_text())
        self.texts = [t.encode("utf-8") if isinstance(t, str) else bytes(t) for t in texts["texts"]]
        self.blocks = texts["blocks"]
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return self.state // 65536 % n

    def text(self):
        return self.texts[self.below(len(self.texts))]

    def characters(self):
        first, last = self.blocks[self.below(len(self.blocks))]
        return "".join(chr(first + self.below(last - first + 1)) for _ in range(1 + self.below(6))).encode("utf-8")

    def part(self):
        kind = self.below(100)
        if kind < 60:
            return self.text()
        if kind < 85:
            return self.characters()
        if kind < 92:
            return bytes(self.below(256) for _ in range(1 + self.below(4)))
        times = 2 + self.below(20)
        return self.text() * times

    def line(self):
        out = b""
        for _ in range(1 + self.below(10)):
            out += self.part()
            if self.below(3) > 0:
                out += b" "
        return out

    def ids(self, size):
        """Any ids; every other one is a byte's or a special one's."""
        return [self.below(260) if self.below(2) else self.below(size) for _ in range(1 + self.below(12))]


class Older(LlamaTokenizer):
    """4.46 takes a space off the first piece and has SentencePiece take another; 4.31, with which HA-DPO's
    models were made, leaves it at SentencePiece's."""

    def convert_tokens_to_string(self, tokens):
        return self.sp_model.decode(tokens)


def settled(tokenizer):
    """Its special strings no longer change: they are not collected anew for every token."""
    fixed = {name: getattr(tokenizer, name) for name in ("all_special_tokens", "all_special_ids")}
    tokenizer.__class__ = type(type(tokenizer).__name__, (type(tokenizer),), fixed)
    return tokenizer


def llama(path, legacy):
    tokenizer = (Older if legacy else LlamaTokenizer)(str(path), legacy=legacy)
    strings = [AddedToken("<image>", normalized=False), AddedToken("<clean>", lstrip=True, rstrip=True, normalized=False),
               AddedToken("<word>", single_word=True, normalized=False)]
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "additional_special_tokens": strings})
    tokenizer.add_tokens([AddedToken("<plain>", normalized=False)])
    return settled(tokenizer)


def bert(path):
    tokenizer = BertTokenizer(str(path))
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return settled(tokenizer)


def joined(ids):
    return " ".join(map(str, ids))


def llama_results(path, lines, key):
    older, newer = llama(path, True), llama(path, False)
    size = older.vocab_size
    assert size == newer.vocab_size
    random = Lines(3)
    plain = lambda t, ids: t.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    out = {f"{key}_{name}": [] for name in ("legacy", "newer", "legacy_text", "newer_text", "any_text")}
    for line in lines:
        text = line.decode("utf-8", "replace")
        a, b = (t.encode(text, add_special_tokens=False) for t in (older, newer))
        for name, value in (("legacy", joined(a)), ("newer", joined(b)), ("legacy_text", plain(older, a)),
                            ("newer_text", plain(newer, b)), ("any_text", plain(older, random.ids(size)))):
            out[f"{key}_{name}"].append(value)
    return out


def bert_results(path, lines, key):
    tokenizer = bert(path)
    out = {f"{key}_{name}": [] for name in ("ids", "cut", "text")}
    for i, line in enumerate(lines):
        text = line.decode("utf-8", "replace")
        tokenizer.truncation_side = "left" if i % 2 else "right"
        ids = tokenizer.encode(text)
        out[f"{key}_ids"].append(joined(ids))
        out[f"{key}_cut"].append(joined(tokenizer.encode(text, truncation=True, max_length=3 + i % 9)))
        out[f"{key}_text"].append(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
    return out


def digest(values):
    data = b"".join((v.encode("utf-8") if isinstance(v, str) else v) + b"\n" for v in values)
    return hashlib.sha256(data).hexdigest()[:16]


def blocks(values):
    return [digest(values[i:i + BLOCK]) for i in range(0, len(values), BLOCK)]


def write_vocabulary():
    """Special strings, characters that begin and that go on, and some pieces: most words come out unknown or
    in parts."""
    words = ("the is there in image car road blue return int for print hello world ing ##ing ##ed ##er ##ion un "
             "##able des ##cribe yes no cafe naive resume istanbul strasse").split()
    characters = ([chr(c) for c in range(33, 127) if not chr(c).isupper()] + [chr(c) for c in range(0x3B1, 0x3CA)] +
                  [chr(c) for c in range(0x430, 0x450)] + [chr(c) for c in range(0x621, 0x64B)] +
                  list("日本語中文的是图有。，！？¿¡—…«»“”‘’°€£§∑ß"))
    lines = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + characters + ["##" + c for c in characters] + words
    assert len(set(lines)) == len(lines)
    (HERE / "vocab.txt").write_text("".join(line + "\n" for line in lines))


def results(lines):
    out = {}
    out.update(llama_results(HERE.parent / "tokenizer.model", lines, "own_llama"))
    out.update(bert_results(HERE / "vocab.txt", lines, "own_bert"))
    out.update(llama_results(SHARED / "llama" / "tokenizer.model", lines, "llama"))
    out.update(bert_results(SHARED / "bert" / "bert-base-uncased-vocab.txt", lines, "bert"))
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--show", nargs=2, metavar=("KEY", "BLOCK"))
    show = parser.parse_args().show
    maker = Lines(1)
    lines = [maker.line() for _ in range(COUNT)]
    write_vocabulary()
    found = results(lines)
    if show:
        first = (int(show[1]) - 1) * BLOCK
        for i in range(first, first + BLOCK):
            print(i + 1, lines[i], repr(found[show[0]][i]))
        return
    golden = {"count": COUNT, "block": BLOCK, "lines": blocks(lines)}
    golden["results"] = {key: blocks(values) for key, values in found.items()}
    golden["samples"] = [{"line": i + 1, **{key: values[i] for key, values in found.items()}}
                         for i in range(0, COUNT, SAMPLE)]
    (HERE / "lines.json").write_text(json.dumps(golden, indent=0, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
