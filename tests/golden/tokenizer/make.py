"""Golden ids: a small SentencePiece model, and what sentencepiece and transformers make of texts with it.

    pip install "sentencepiece==0.2.3" "transformers==4.46.3" protobuf "numpy<2"
    python make.py          # writes tokenizer.model, the folder files and golden.json beside this script
"""

import io
import json
from pathlib import Path

import sentencepiece as spm
from transformers import AddedToken, LlamaTokenizer

HERE = Path(__file__).resolve().parent

CORPUS = [
    "A red car stands on the road, and a small dog runs after the ball.",
    "There are 3 boats on the blue water; 12 houses stand near the tree.",
    "USER: Is there a cloud in the image? ASSISTANT: Yes, there is a cloud.",
    "Describe this image in detail. The sun is yellow, the table is at the bottom left.",
    "Une voiture bleue est garée près de la maison.",
    "Please provide a detailed description of the picture.\tThe chair is green.",
] * 3

# Invalid bytes stand as surrogates (surrogateescape), as JSON cannot hold them else. They are encoded as
# Python reads them: decode(errors="replace").
TEXTS = [
    "", " ", "  ", "A", " A", "A ", "A  dog", "a\nb", "\n", "\n\n", "\t", "There is a car.", "There is a car. ",
    "Is there a snowboard in the image?", "123 45,6", "près de la maison", "日本語のテスト", "🎉🎈 party",
    "\u2581x", "a\u2581b",
    "zero\0byte", "e\u0301 \u00e9", "\ufeffmark", "\u3000wide\u00a0space", "CamelCaseWord_and-more!", "x" * 40,
    b"\xff\xfe".decode("utf-8", "surrogateescape"), b"ok \xc3( \xe2\x82 end".decode("utf-8", "surrogateescape"),
    b"\xf0\x9f\x8e".decode("utf-8", "surrogateescape"), b"\xed\xa0\x80 \xc0\xaf".decode("utf-8", "surrogateescape"),
]

SPECIAL = [
    "<s>A dog.", "<s>A dog.</s>", "<s> A dog. </s> B", "USER: <image>\nIs it? ASSISTANT:", "<image><image>A", "x<unk>y",
    "A</s>B</s>", "</s>", "<pad>", "a <clean> b <clean>c", "<imag>", "<<image>>", "The <image> The", "é<image>é",
]

DECODED = [
    [], [300, 301, 302], [1, 300, 301, 2], [259, 300], [0, 300], [3 + 0xE6, 3 + 0x97, 3 + 0xA5], [3 + 0xE6, 3 + 0x97],
    [3 + 0xFF, 300, 3 + 0x41], [3 + 0xF0, 3 + 0x9F, 300, 3 + 0x8E, 3 + 0x89], [300, 2, 301], [3 + 0x20, 300],
    [3 + 0xED, 3 + 0xA0, 3 + 0x80], [3 + 0xC2, 3 + 0xC2, 3 + 0xA9],
]


def raw(text):
    return text.encode("utf-8", "surrogateescape")


def read(text):
    return raw(text).decode("utf-8", "replace")


def train():
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=out, model_type="bpe", vocab_size=400, byte_fallback=True,
        normalization_rule_name="identity", add_dummy_prefix=True, remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=1.0, hard_vocab_limit=False, num_threads=1,
        minloglevel=2)
    (HERE / "tokenizer.model").write_bytes(out.getvalue())


FLAGS = {"<image>": {}, "<pad>": {}, "<clean>": {"lstrip": True, "rstrip": True}}


def slow(legacy):
    """The published models' own tokenizer class with three added strings."""
    tokenizer = LlamaTokenizer(str(HERE / "tokenizer.model"), legacy=legacy)
    strings = [AddedToken(content, normalized=False, **flags) for content, flags in FLAGS.items()]
    tokenizer.add_special_tokens({"additional_special_tokens": strings})
    return tokenizer


def write_config(tokenizer):
    """As newer versions write it: every registered string with its flags."""
    added = {}
    for content in ["<unk>", "<s>", "</s>", *FLAGS]:
        flags = {"lstrip": False, "rstrip": False, **FLAGS.get(content, {})}
        added[str(tokenizer.convert_tokens_to_ids(content))] = {"content": content, "special": True, **flags}
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": {"content": "<s>"}, "eos_token": "</s>",
              "unk_token": "<unk>", "pad_token": "<pad>", "legacy": True, "added_tokens_decoder": added}
    (HERE / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    train()
    processor = spm.SentencePieceProcessor(model_file=str(HERE / "tokenizer.model"))
    size = processor.get_piece_size()
    older, newer = slow(True), slow(False)
    write_config(older)
    golden = {
        "pieces": size,
        "special_ids": {"bos": 1, "eos": 2, "unk": 0, "pad": older.convert_tokens_to_ids("<pad>")},
        "encoded": [{"bytes": list(raw(t)), "ids": processor.encode(read(t))} for t in TEXTS],
        "special": [{"text": t, "ids": older.encode(t, add_special_tokens=False),
                     "newer": newer.encode(t, add_special_tokens=False)} for t in SPECIAL],
        "decoded": [{"ids": ids, "bytes": list(raw(processor.decode([i for i in ids if i > 2])))} for ids in DECODED],
    }
    lines = []
    for key, value in golden.items():
        if isinstance(value, list):
            lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(v) for v in value) + "]")
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    (HERE / "golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
