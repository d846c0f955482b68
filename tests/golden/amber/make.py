"""Golden numbers of AMBER's rules, written from their description.

    python make.py          # writes cases.json

A small benchmark of random annotations in the published form and responses to it: what the benchmark's
program prints for the questions (exact "Yes" and "No"), and the numbers of descriptions made of words
of the lists and of words that are none, by the definitions. Only the standard library is used.
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
R = random.Random(20231113)
TYPES = {"discriminative-hallucination": "existence", "discriminative-attribute-state": "state",
         "discriminative-attribute-number": "number", "discriminative-attribute-action": "action",
         "discriminative-relation": "relation", "relation": "relation"}
ATTRIBUTE = ("state", "number", "action")
RELATED = {"sky": [], "sea": ["river", "lake"], "lake": ["sea"], "man": ["person", "boy"], "person": ["man", "boy"],
           "car": ["vehicle", "door"], "tree": ["forest"], "forest": ["tree"], "dog": [], "camera": [], "sun": []}
SAFE = ["camera"]
FILLERS = ["quietly", "in", "behind", "Sky-high", "catalogue"]


# ---- questions -----------------------------------------------------------------------------------


class Counts:
    def __init__(self):
        self.n = self.no = self.said_no = 0.001
        self.right = self.found = 0

    def take(self, truth, response):
        self.n += 1
        if truth == "no":
            self.no += 1
        if response == "No":
            self.said_no += 1
            self.found += truth == "no"
        self.right += response == {"yes": "Yes", "no": "No"}[truth]


def printed(counts, more=0.0001):
    def total(name):
        return sum(getattr(c, name) for c in counts)

    accuracy = round(total("right") / total("n") * 100, 1)
    precision = round(total("found") / total("said_no") * 100, 1)
    recall = round(total("found") / total("no") * 100, 1)
    p, r = precision / 100, recall / 100
    return {"accuracy": accuracy, "precision": precision, "recall": recall,
            "f1": round(2 * p * r / (p + r + more) * 100, 1)}


def questions(rows):
    every, by_kind = Counts(), {kind: Counts() for kind in TYPES.values()}
    for row in rows:
        every.take(row["truth"], row["response"])
        by_kind[TYPES[row["type"]]].take(row["truth"], row["response"])
    out = {"": printed([every]), "existence_": printed([by_kind["existence"]], 0.001),
           "attribute_": printed([by_kind[k] for k in ATTRIBUTE])}
    for kind in (*ATTRIBUTE, "relation"):
        out[kind + "_"] = printed([by_kind[kind]])
    return {prefix + name: v for prefix, metrics in out.items() for name, v in metrics.items()}


# ---- descriptions --------------------------------------------------------------------------------


def stands_for(word, things):
    if word in things:
        return word
    return next((t for t in things if word in RELATED.get(t, [])), None)


def descriptions(rows):
    vocabulary = set(RELATED) | {w for words in RELATED.values() for w in words}
    mentions = invented_mentions = expected = covered = things = traps_hit = traps = bad = 0
    for row in rows:
        words = [w for w in row["response"].replace(".", "").split(" ") if w in vocabulary]
        truth, hallu = set(row["truth"]), set(row["hallu"])
        seen, hit, wrong = set(), set(), 0
        for w in words:
            thing = stands_for(w, row["truth"])
            if thing:
                seen.add(thing)
            elif w not in SAFE:
                wrong += 1
                trap = stands_for(w, row["hallu"])
                if trap:
                    expected += 1
                    hit.add(trap)
        mentions += len(words)
        invented_mentions += wrong
        bad += wrong > 0
        covered, things = covered + len(seen), things + len(truth)
        traps_hit, traps = traps_hit + len(hit), traps + len(hallu)
    return {"chair": invented_mentions / mentions, "cover": covered / things, "hal": bad / len(rows),
            "cog": traps_hit / traps, "cog_of_mentions": expected / mentions}


def main():
    rows = []
    vocabulary = sorted(set(RELATED) | {w for words in RELATED.values() for w in words})
    for i in range(60):
        things = R.sample(sorted(RELATED), 6)
        words = [R.choice(vocabulary if R.random() < 0.7 else FILLERS) for _ in range(R.randrange(1, 12))]
        truth = things[:R.randrange(1, 4)]
        rows.append({"id": i + 1, "type": "generative", "truth": truth + truth[:R.randrange(2)],
                     "hallu": things[3:], "response": " ".join(words) + "."})
    described = list(rows)
    for i in range(400):
        kind = R.choice(list(TYPES))
        truth = "no" if kind == "discriminative-hallucination" else R.choice(["yes", "no"])
        rows.append({"id": 61 + i, "type": kind, "truth": truth,
                     "response": R.choice(["Yes", "No", "Yes", "No", "No.", "yes", "Unclear", "Yes, there is.", ""])})
    golden = {"rows": rows, "relation": RELATED, "safe": SAFE, "published": questions(rows[60:]),
              "lexical": descriptions(described)}
    (HERE / "cases.json").write_text(json.dumps(golden, indent=0) + "\n")
    print(golden["lexical"], golden["published"])


if __name__ == "__main__":
    main()
