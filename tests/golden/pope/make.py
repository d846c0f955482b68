"""POPE's official scoring on synthetic answers, written from the facts (no code of the benchmark).

usage: python make.py          writes cases.json beside itself

A case is a question file and an answer file in rows, how they are to be written (form, ids, case of labels), and
what the scoring gives. Where it would divide by zero the value is null.
"""
import json
import pathlib
import random

QUIRKS = [
    "", " ", ".", ",", "Yes", "No", "NO", "no", "not", "Not", "nO", "Yes.", "No.", "no.", "NO.", "No</s>", "no</s>", "Yes</s>",
    "No.</s>", "no\n", "no\nYes", "No\tthere", "Yes\nno", "No;", "no!", "No?", "(no)", "'no'", "\"No\"", "No,", "no,", "no ,",
    "Well,no", "Well, no", "n,o", "N,o", "n.o", "not.", "nothing", "Nothing.", "none", "nope", "Nope.", "cannot", "There isn't one",
    "isn't", "There's no cat.", "There is no cat in the image.", "There is not a cat. Yes.", "Yes. No.", "Yes, there is no doubt.",
    "Yes. There is no doubt.", ". No", " No", "  no", "a  no", "no ", "No  ", "No-one", "no-", "Yes no", "Yes, not", "I do not know",
    "I don't know", "unsure", "1.5 no", "no 1.5", "Is there no cat?", "Ye", "No ", "Да", "No\u00a0cat", "no\u3000", "Noé",
    "Yes, there is a cat in the image.", "No, there is no cat in the image.", "No there is", "YES", "yes", "Yes it is not.",
    "###No", "Assistant: No", "no\r\n", "\nno", "e.g. no", "no e.g.", "There is a cat , no",
]
OBJECTS = ["cat", "dog", "car", "umbrella", "dining table", "hot dog"]


def says_no(answer):
    text = answer
    if text.find(".") != -1:
        text = text.split(".")[0]
    text = text.replace(",", "")
    words = text.split(" ")
    return "No" in words or "not" in words or "no" in words


def ratio(f):
    try:
        return f()
    except ZeroDivisionError:
        return None


def score(labels, answers):
    pred = [0 if says_no(a) else 1 for a in answers]
    truth = [0 if label == "no" else 1 for label in labels]
    tp = fp = tn = fn = 0
    for p, t in zip(pred, truth):
        if p == 1 and t == 1:
            tp += 1
        elif p == 1 and t == 0:
            fp += 1
        elif p == 0 and t == 0:
            tn += 1
        else:
            fn += 1
    precision = ratio(lambda: float(tp) / float(tp + fp))
    recall = ratio(lambda: float(tp) / float(tp + fn))
    f1 = None
    if precision is not None and recall is not None:
        f1 = ratio(lambda: 2 * precision * recall / (precision + recall))
    return {
        "tp": tp, "fp": fp, "tn": tn, "fn": fn,
        "accuracy": (tp + tn) / (tp + tn + fp + fn), "precision": precision, "recall": recall, "f1": f1,
        "yes_ratio": pred.count(1) / len(pred),
    }


def case(number, rng):
    n = [1, 2, 3, 7, 20, len(QUIRKS), 60, 90][number % 8]
    pool = QUIRKS
    if number == 24:
        pool = ["No.", "no", "not"]          # nothing said to be there
    if number == 25:
        pool = ["Yes.", "NO", ""]            # everything
    answers = list(QUIRKS) if n == len(QUIRKS) and pool is QUIRKS else [rng.choice(pool) for _ in range(n)]
    labels = [rng.choice(["yes", "no"]) for _ in range(n)]
    if number == 26:
        labels = ["no"] * n                  # nothing is there
    if number == 27:
        labels = ["yes"] * n
    return {
        "form": ["lines", "array", "joined"][number % 3],
        "ids": ["from 1", "from 0", "text", "quoted"][number % 4],
        "case": ["lower", "title", "upper"][(number // 2) % 3],
        "images": [f"COCO_val2014_{rng.randrange(1 + n // 3):012d}.jpg" for _ in range(n)],
        "texts": [f"Is there a {rng.choice(OBJECTS)} in the image?" for _ in range(n)],
        "labels": labels, "answers": answers, "expected": score(labels, answers),
    }


def main():
    rng = random.Random(7)
    cases = [case(i, rng) for i in range(32)]
    here = pathlib.Path(__file__).parent
    with open(here / "cases.json", "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
