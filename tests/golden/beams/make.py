"""Golden answers of transformers' own generate: greedy and beam search, by today's and by the era's rules.

    python make.py modern        # newest transformers: modern.json
    python make.py era           # transformers 4.31.0: era.json

The model is the decoder of ../llava_tiny/classic; its head is sharpened and its row of </s> enlarged, so that
answers end. README.md names the versions and what each member is.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
CLASSIC = HERE.parent / "llava_tiny" / "classic"
PIECES, IMAGE, ROWS, EOS, PAD = 72, 72, 4, 2, 73
HEAD, END = 2.5, 1.6  # what the head, and then its row of </s>, are multiplied by
COUNT, LENGTH = 24, 32
NEAR = 1e-5

# What is asked of every prompt, in the names of GenerationConfig.
CASES = {
    "greedy": {},
    "greedy_repetition": {"repetition_penalty": 1.5},
    "greedy_least": {"min_new_tokens": 9},
    "beams": {"num_beams": 5},
    "beams_repetition": {"num_beams": 5, "repetition_penalty": 1.5},
    "beams_least": {"num_beams": 5, "min_new_tokens": 9},
    "beams_long": {"num_beams": 5, "length_penalty": 2.0},
    "beams_short": {"num_beams": 5, "length_penalty": -0.5},
    "beams_sum": {"num_beams": 3, "length_penalty": 0.0},
    "beams_early": {"num_beams": 4, "early_stopping": True},
    "beams_never": {"num_beams": 3, "early_stopping": "never"},
}
ERA_CASES = {  # limits that count the prompt
    "beams_limits": {"num_beams": 5, "max_length": 24, "min_length": 14},
}


def weights():
    tensors = load_file(CLASSIC / "model.safetensors")
    head = tensors["language_model.lm_head.weight"]
    head *= HEAD
    head[EOS] *= END
    return tensors


def settings():
    text = dict(json.loads((CLASSIC / "config.json").read_text())["text_config"])
    return {k: v for k, v in text.items() if k not in ("architectures", "model_type", "torch_dtype", "rope_theta")} | {
        "bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": PAD, "tie_word_embeddings": False}


def language(tensors):
    """The decoder alone; 4.31 knows the default base of rotary positions only, so that is set by hand."""
    model = LlamaForCausalLM(LlamaConfig(**settings())).float().eval()
    own = {n[len("language_model."):]: t for n, t in tensors.items() if n.startswith("language_model.")}
    left = model.load_state_dict(own, strict=False)
    assert not left.unexpected_keys and all("inv_freq" in n for n in left.missing_keys), left
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
    for layer in model.model.layers:
        size = layer.self_attn.head_dim
        layer.self_attn.rotary_emb = LlamaRotaryEmbedding(size, max_position_embeddings=256, base=5000.0)
    return model


def vision_language(tensors):
    from transformers import LlavaForConditionalGeneration
    model = LlavaForConditionalGeneration.from_pretrained(CLASSIC, attn_implementation="eager").float().eval()
    with torch.no_grad():
        model.lm_head.weight.copy_(tensors["language_model.lm_head.weight"])
    return model


class Draw:
    """Prompts of one seed, some of them with a picture."""

    def __init__(self, pictures):
        self.rng, self.pictures, self.pixels = np.random.default_rng(11), pictures, None
        if pictures:
            self.pixels = load_file(CLASSIC / "expected.safetensors")["pixel_values"]

    def prompt(self, number):
        ids = [1] + self.rng.integers(3, PIECES, int(self.rng.integers(3, 12))).tolist()
        if self.pictures and number % 2:
            ids.insert(2, -200)
        return ids


def inputs(model, ids, draw, embedded):
    if draw.pictures:
        whole = [i for id in ids for i in ([IMAGE] * ROWS if id == -200 else [id])]
        given = {"input_ids": torch.tensor([whole]), "attention_mask": torch.ones(1, len(whole), dtype=torch.long)}
        if -200 in ids:
            given["pixel_values"] = draw.pixels
        return given, len(whole)
    given = {"attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if embedded:
        return given | {"inputs_embeds": model.get_input_embeddings()(torch.tensor([ids]))}, 1
    return given | {"input_ids": torch.tensor([ids])}, len(ids)


def answer(model, given, skip, case):
    """One case: ids without the end, whether it ended, the score; None where two scores are too near."""
    beams = case.get("num_beams", 1)
    limit = {} if "max_length" in case else {"max_new_tokens": LENGTH}
    config = GenerationConfig(do_sample=False, bos_token_id=1, eos_token_id=EOS, pad_token_id=PAD,
                              num_return_sequences=min(beams, 2), return_dict_in_generate=True,
                              output_scores=True, **limit, **case)
    out = model.generate(**given, generation_config=config)
    if beams == 1:
        top = torch.stack(out.scores)[:, 0].topk(2).values
        if (top[:, 0] - top[:, 1]).min() < NEAR:
            return None
    elif abs(out.sequences_scores[0] - out.sequences_scores[1]) < NEAR:
        return None
    best = []
    for sequence in out.sequences[:, skip:].tolist():
        best.append(sequence[:sequence.index(EOS) + 1] if EOS in sequence else sequence)
    record = {"ids": best[0]}
    if beams > 1:
        record |= {"second": best[1], "scores": [float(f"{s:.8g}") for s in out.sequences_scores.tolist()]}
    return record


def run(model, draw, embedded, cases):
    prompts, redrawn = [], 0
    with torch.no_grad():
        while len(prompts) < COUNT:
            ids = draw.prompt(len(prompts))
            given, skip = inputs(model, ids, draw, embedded)
            answers = {name: answer(model, given, skip, dict(case)) for name, case in cases.items()}
            if None in answers.values():
                redrawn += 1
                continue
            prompts.append({"ids": ids, "answers": answers})
    return {"redrawn": redrawn, "prompts": prompts}


def main():
    which = sys.argv[1]
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    tensors = weights()
    if which == "modern":
        cases = CASES
        sets = {"ids": run(vision_language(tensors), Draw(True), False, cases)}
    else:
        cases = CASES | ERA_CASES
        model = language(tensors)
        sets = {"ids": run(model, Draw(False), False, cases), "embeddings": run(model, Draw(False), True, cases)}
    facts = {"transformers": transformers.__version__, "torch": torch.__version__, "head": HEAD, "end": END,
             "length": LENGTH, "cases": cases, "sets": sets}
    text = json.dumps(facts, separators=(",", ":")).replace('{"ids":[', '\n{"ids":[') + "\n"
    (HERE / f"{which}.json").write_text(text)
    for name, made in sets.items():
        print(name, "redrawn", made["redrawn"])
        for case in cases:
            ends = [p["answers"][case]["ids"] for p in made["prompts"]]
            print(f"  {case:18} ended {sum(e[-1:] == [EOS] for e in ends):3} of {len(ends)}, "
                  f"lengths {min(map(len, ends))} to {max(map(len, ends))}, different {len(set(map(tuple, ends)))}")


if __name__ == "__main__":
    main()
