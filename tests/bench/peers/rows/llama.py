"""Decoding by llama.cpp, through llama-cpp-python: the same widths and layers, random weights, BF16 or Q8_0. Embedding and
head are BF16 in both, as ours are: each tensor has as many bytes on one side as on the other.
The file is written here, with gguf's own writer and quantiser; a token's time is that of its evaluation alone, of the median token.
"""
import json
import os
import statistics
import time

import numpy as np
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from gguf.quants import quantize
from llama_cpp import Llama

WARM = 4


def write(path, s, kind):
    d, f, words, heads = s["hidden_size"], s["intermediate_size"], s["vocab_size"], s["num_attention_heads"]
    w, rng = GGUFWriter(path, "llama"), np.random.default_rng(1)
    w.add_block_count(s["num_hidden_layers"])
    w.add_context_length(2048)
    w.add_embedding_length(d)
    w.add_feed_forward_length(f)
    w.add_head_count(heads)
    w.add_head_count_kv(heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(d // heads)
    w.add_vocab_size(words)
    w.add_tokenizer_model("llama")
    w.add_token_list([f"<{i}>".encode() for i in range(words)])
    w.add_token_scores([0.0] * words)
    w.add_token_types([1] * words)

    def matrix(name, n, k, kind=kind):
        values = rng.standard_normal((n, k), dtype=np.float32) * 0.02
        w.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def ones(name):
        w.add_tensor(name, np.ones(d, dtype=np.float32))

    matrix("token_embd.weight", words, d, Kind.BF16)
    for i in range(s["num_hidden_layers"]):
        for part in "q", "k", "v", "output":
            matrix(f"blk.{i}.attn_{part}.weight", d, d)
        matrix(f"blk.{i}.ffn_gate.weight", f, d)
        matrix(f"blk.{i}.ffn_up.weight", f, d)
        matrix(f"blk.{i}.ffn_down.weight", d, f)
        ones(f"blk.{i}.attn_norm.weight")
        ones(f"blk.{i}.ffn_norm.weight")
    ones("output_norm.weight")
    matrix("output.weight", words, d, Kind.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def make(o):
    with open(f"{o['folder']}/config.json") as f:
        sizes = json.load(f)["text_config"]
    path = f"{o['folder']}/model.gguf"
    write(path, sizes, Kind.Q8_0 if o.get("quant") == "q8_0" else Kind.BF16)
    model = Llama(path, n_ctx=2048, n_threads=o["threads"], n_threads_batch=o["threads"], logits_all=False, verbose=False)
    os.remove(path)  # it stays mapped
    prompt = [3 + i % 250 for i in range(o["prompt"])]

    def token():
        model.reset()
        model.eval(prompt)
        for _ in range(WARM):
            model.eval([7])
        seconds = []
        for _ in range(o["tokens"]):
            started = time.perf_counter()
            model.eval([7])
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    return token
