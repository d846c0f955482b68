"""Golden numbers of SHR's published rules, written from their description.

    python make.py          # writes cases.json

200 descriptions with the reply of a judge each, well formed and not, and what the rules make of them:
the numbered sentences, the labels, the region lines, and the numbers of ten batches and of all. Only
the standard library is used. README.md says what is defined here where the published programs fail.
"""

import json
import random
from pathlib import Path

HERE = Path(__file__).resolve().parent
COUNT, BATCH = 200, 20
LABELS = ("hallucination", "correct", "cannot judge")
R = random.Random(20231128)

# ---- the rules -----------------------------------------------------------------------------------


def sentences_of(text):
    kept = []
    for piece in text.split("."):
        piece = piece.strip()
        if piece and not any(piece in earlier for earlier in kept):
            kept.append(piece)
    return kept


def labels_of(reply):
    """[(label, line)], or None without the heading."""
    lines = [line for line in reply.split("\n") if line]
    places = [i for i, line in enumerate(lines) if "Judgement:" in line]
    if not places:
        return None
    found = []
    for line in lines[places[0] + 1:]:
        rest = " ".join(line.split(" ")[1:]).strip()
        if rest:
            found.append((rest.split(":")[0].lower(), rest))
    return found


def judged(text, reply):
    kept, labels = sentences_of(text), labels_of(reply)
    if labels is None or len(labels) != len(kept):
        labels = [(None, None)] * len(kept)
    return [{"model_response": s + ".", "judgement": line, "classification": label}
            for s, (label, line) in zip(kept, labels)]


def repetition(text, n):
    for mark in (".", ":", "\n", "?", ","):
        text = text.replace(mark, "")
    words = text.split()
    grams = [tuple(words[i:i + n]) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def region_line(region, width, height):
    x, y, w, h = (region[k] for k in ("x", "y", "width", "height"))
    box = [float("%.2f" % v) for v in (x / width, y / height, (x + w) / width, (y + h) / height)]
    return f"{box}: {region['phrase']}"


def divided(a, b):
    return round(a / b, 3) if b else 0


def metrics_of(cases, skipped=()):
    """The published names; `skipped` pictures are described but not judged."""
    used = [c for c in cases if c["image_id"] not in skipped]
    rows = [row for c in used for row in judged(c["response"], c["reply"])]
    counted = [row for row in rows if row["classification"] in LABELS]
    bad = [row for row in counted if row["classification"] == "hallucination"]

    def words(list_of_rows):
        return sum(len(row["model_response"].split(" ")) for row in list_of_rows)

    m = {
        "num_images": len(used),
        "sents_per_image": divided(len(rows), len(used)),
        "words_per_image": divided(words(rows), len(used)),
        "hal_sents_per_image": divided(len(bad), len(used)),
        "hal_words_per_image": divided(words(bad), len(used)),
        "hal_sents_ratio": divided(len(bad), len(counted)),
        "hal_words_ratio": divided(words(bad), words(counted)),
    }
    m["mean_hal_ratio"] = round(m["hal_sents_ratio"], 3)
    for n in range(1, 5):
        total = 0
        for c in cases:
            total += repetition(c["response"], n)
        m[f"gram-{n}-repetition"] = round(total / len(cases), 3)
    return m


# ---- the cases -----------------------------------------------------------------------------------

NOUNS = ["dog", "red bus", "man", "tree", "umbrella", "café", "traffic light", "bowl of soup"]
FORMS = ["There is a {}", "A {} stands at 3.5 metres", "The {}, which is old, sits", "{}", "a {}",
         "Is it a {}? Yes", "The scene\nfeels calm near the {}", "The  {}  and the  {}"]
SPACES = [" ", "  ", "\n", "\u00a0", " \t", "\u3000", ""]
REASONS = ["no sign of it", "it is annotated", "a mood: nothing to check", ""]


def response():
    parts = []
    for _ in range(R.choice([0, 1, 2, 3, 4, 5, 6, 8])):
        form = R.choice(FORMS)
        parts.append(form.format(*[R.choice(NOUNS) for _ in range(form.count("{}"))]))
    if parts and R.random() < 0.3:
        parts.append(R.choice(parts))                # said again
    text = "".join(p + R.choice([".", ".", ".", ". ", "..", " ."]) + R.choice(SPACES) for p in parts)
    return text if R.random() < 0.8 else text.rstrip(". \n\u00a0\t\u3000")


def reply_to(text):
    n = len(sentences_of(text))
    lines = []
    for i in range(n):
        label = R.choice(["hallucination", "Hallucination", "correct", "Correct", "cannot judge",
                          "Cannot judge", "HALLUCINATION", "unsure", "correct "])
        line = f"{i + 1}. {label}: {R.choice(REASONS)}"
        if R.random() < 0.08:
            line = f"{i + 1}. {label}"
        if R.random() < 0.05:
            line = f"{i + 1}.{label}: no space"
        if R.random() < 0.05:
            line = "\u00a0" + line
        lines.append(line + R.choice(["", "", "", "\r", "  "]))
    fault = R.random()
    if fault < 0.08 and lines:
        lines.pop(R.randrange(len(lines)))
    elif fault < 0.14:
        lines.append(R.choice(["9. correct: one too many", "Note: that is all", "", "Thanks"]))
    heading = "Judgement:"
    if 0.14 <= fault < 0.2:
        heading = R.choice(["Judgment:", "judgement:", "Judgement", "**Judgement**"])
    elif fault > 0.9:
        heading = R.choice(["### Judgement: ", "Here it is. Judgement: 1. correct: no", "\n\nJudgement:\n"])
    between = "\n" if R.random() < 0.8 else "\n\n"
    return R.choice(["", "Sure!\n"]) + heading + "\n" + between.join(lines) + R.choice(["", "\n"])


def case(i):
    width, height = R.choice([(800, 600), (640, 480), (333, 500), (1024, 7)])
    regions = [{"x": R.randrange(-3, width), "y": R.randrange(height), "width": R.randrange(1, width),
                "height": R.randrange(1, height), "phrase": R.choice(NOUNS)} for _ in range(R.randrange(1, 3))]
    text = response()
    reply = reply_to(text)
    return {"image_id": 1000 + i, "response": text, "reply": reply, "sentences": sentences_of(text),
            "judged": judged(text, reply), "width": width, "height": height, "regions": regions,
            "lines": [region_line(r, width, height) for r in regions],
            "repetition": [repetition(text, n) for n in range(1, 5)]}


def main():
    cases = [case(i) for i in range(COUNT)]
    batches = [cases[i:i + BATCH] for i in range(0, COUNT, BATCH)]
    skipped = [c["image_id"] for c in cases if c["image_id"] % 7 == 0]
    golden = {"cases": cases, "all": metrics_of(cases), "batches": [metrics_of(b) for b in batches],
              "skipped": skipped, "without_skipped": metrics_of(cases, skipped)}
    text = json.dumps(golden, indent=0, ensure_ascii=True)
    (HERE / "cases.json").write_text(text + "\n")
    rows = [row for c in cases for row in c["judged"]]
    lost = sum(1 for c in cases if c["judged"] and c["judged"][0]["classification"] is None)
    print(f"{len(cases)} cases, {len(rows)} sentences, {lost} replies of no use, {len(text)} bytes")


if __name__ == "__main__":
    main()
