"""make gpu-bench: asks our side (bench.lua) and the peers (peers/serve.py) in turns, and writes a table and JSON.

    bench.py LUCID --out FILE [--commit ID] [--small]

Both sides live all the time and take turns, so that what else the machine does hits both. Ceilings are measured first and
last. A row has its figure, what it must and should reach, and the seconds behind it; one that fails or for which there
is no time left says so and stops no other. --small: sizes for an emulated device and a CPU, to test this file.
"""
import argparse
import datetime
import json
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../bench/peers")

from side import Side, median  # noqa: E402

BUDGET = 430  # seconds for all rows
PICTURES_AT_ONCE = 12000  # tokens of a part of a step by picture, whose seven pairs each are more than memory holds


class Bench:
    def __init__(self, ours, theirs, small):
        self.ours, self.theirs, self.small = ours, theirs, small
        self.rounds = 1 if small else 3
        self.rows, self.last, self.end = [], None, time.monotonic() + BUDGET

    def size(self, large, small):
        return small if self.small else large

    def row(self, name, must, stretch, f, least=True):
        """f gives the figure and what is behind it. least: it has to reach must; else it must not be beyond."""
        row = {"name": name, "must": must, "stretch": stretch}
        try:
            if time.monotonic() > self.end:
                raise RuntimeError("no time was left")
            row["figure"], row["behind"] = f()
            reached = [row["figure"] >= bound if least else row["figure"] <= bound for bound in (must, stretch)]
            row["verdict"] = "stretch" if reached[1] else "passes" if reached[0] else "fails"
        except Exception as e:  # a row that breaks is a row of the table
            row["verdict"], row["why"] = "not measured", str(e).splitlines()[0] if str(e) else repr(e)
        self.rows.append(row)
        print(f"  {name}: {row.get('figure', row.get('why'))}", flush=True)

    def turns(self, ours, theirs, rounds=None):
        """Both sides' answers, in turns; another one begins each time."""
        a, b = [], []
        for i in range(rounds or self.rounds):
            for side, what, to in [(self.ours, ours, a), (self.theirs, theirs, b)][:: 1 if i % 2 == 0 else -1]:
                to.append(side.ask(**what))
        return a, b

    # ---- rows --------------------------------------------------------------------------------------------

    def ceilings(self):
        seconds = self.size(5, 0.1)
        c = self.theirs.ask(do="ceiling", size=self.size(8192, 64), seconds=seconds)
        c.update(self.theirs.ask(do="copy", bytes=self.size(1 << 30, 1 << 16)))
        return c

    def linears(self):
        shares, behind = [], []
        for rows in self.size([8192, 2048], [40]):
            for n, k in self.size([(12288, 4096), (4096, 4096), (22016, 4096), (4096, 11008)], [(32, 48)]):
                a, b = self.turns(*[dict(do="linear", rows=rows, n=n, k=k)] * 2)
                own, best = median(a)[0], median(b)[0]
                shares.append(best / own)
                behind.append({"rows": rows, "n": n, "k": k, "ours": own, "best": best, "torch": b[0].get("torch"),
                               "algorithms": b[0].get("algorithms"), "share of ceiling": 2 * rows * n * k / best / self.peak})
        return 100 * min(shares), behind

    def lora(self, rows):
        d, f, rank = self.size((4096, 11008, 128), (32, 48, 8))
        shapes = [(d, d)] * 4 + [(f, d)] * 2 + [(d, f)]
        answers = [self.ours.ask(do="lora", rows=rows, rank=rank, shapes=shapes) for _ in range(self.rounds)]
        flops = sum(4 * rows * n * k + 6 * rows * rank * (n + k) for n, k in shapes)
        seconds, spread = median(answers)
        return 100 * flops / seconds / self.peak, {"seconds": seconds, "spread": spread, "flops": flops}

    def attention(self, backward, backend):
        what = dict(do="attention", sequences=self.size(8, 2), length=self.size(2048, 40), heads=self.size(32, 2), d=128,
                    backward=backward)
        a, b = self.turns(what, dict(what, backend=backend))
        own, other = median(a), median(b)
        flops = (14 if backward else 4) * what["sequences"] * what["length"] ** 2 / 2 * what["heads"] * what["d"]
        return 100 * other[0] / own[0], {"ours": own, "theirs": other, "backend": b[0]["backend"],
                                        "their share of ceiling": flops / other[0] / self.peak}

    def memory(self):
        shares, behind = [], []
        for kernel, width in [("add", 4096), ("rms_norm", 4096), ("swiglu", 11008), ("rope", 4096)]:
            answers = [self.ours.ask(do="memory", kernel=kernel, rows=self.size(32768, 20), width=self.size(width, 256))
                       for _ in range(self.rounds)]
            seconds, spread = median(answers)
            shares.append(answers[0]["bytes"] / seconds / self.bandwidth)
            behind.append({"kernel": kernel, "seconds": seconds, "spread": spread, "share": shares[-1]})
        return 100 * min(shares), behind

    def adamw(self):
        answers = [self.ours.ask(do="adamw", parameters=self.size(320_000_000, 5000)) for _ in range(self.rounds)]
        seconds, spread = median(answers)
        return 100 * answers[0]["bytes"] / seconds / self.bandwidth, {"seconds": seconds, "spread": spread}

    def steps(self, mix, group, cached, count):
        """Our step and the plain loop's, on the same pairs: both sides' answers."""
        at_once = self.tokens_at_once or (PICTURES_AT_ONCE if group == "image" else 0)
        what = dict(do="step", mix=mix, group=group, pairs=count, tokens_at_once=at_once)
        pairs = self.ours.ask(do="pairs", mix=mix, group=group, pairs=count)["pairs"]
        pairs = pairs[: self.size(16, 2)]
        self.theirs.ask(do="free")
        a, b = self.turns(dict(what, cached=cached, steps=self.size(3, 1), limit=150),
                          dict(do="step", pairs=pairs, steps=self.size(2, 1), limit=150), rounds=self.size(2, 1))
        return a, b

    def ratio(self, mix, group, cached, count):
        a, b = self.steps(mix, group, cached, count)
        own, other = median(a)[0] / a[0]["pairs"], median(b)[0] / b[0]["pairs"]
        self.last = a
        return other / own, {"our pairs a second": 1 / own, "their pairs a second": 1 / other,
                             "our share of ceiling": a[0]["flops"] / median(a)[0] / self.peak,
                             "their share of ceiling": b[0]["flops"] / median(b)[0] / self.peak,
                             "our tokens": a[0]["tokens"], "their padded tokens": b[0]["tokens"],
                             "losses": [a[0]["loss"], b[0]["loss"]]}

    def last_step(self):
        if not self.last:
            raise RuntimeError("no step was measured")
        return self.last

    def step_share(self):
        answers = self.last_step()
        seconds, spread = median(answers)
        return 100 * answers[0]["flops"] / seconds / self.peak, {"seconds": seconds, "spread": spread,
                                                                 "flops": answers[0]["flops"]}

    def memory_of_plan(self):
        peak, planned = (self.last_step()[0][name] for name in ("peak_bytes", "planned_bytes"))
        return 100 * abs(peak / planned - 1), {"peak": peak, "planned": planned}

    def decode(self):
        answers = [self.ours.ask(do="decode", keys=self.size(700, 30), steps=self.size(64, 2)) for _ in range(self.rounds)]
        seconds, spread = median(answers)
        return 100 * answers[0]["bytes"] / seconds / self.bandwidth, {"tokens a second": 1 / seconds, "spread": spread}

    def run(self):
        facts = {"ours": self.ours.start(), "theirs": self.theirs.start()}
        first = self.ceilings()
        self.peak, self.bandwidth = first["flops"], first["bandwidth"]
        # Where both sides' models leave little room, a step is cut into parts.
        self.tokens_at_once = 0 if facts["theirs"]["bytes"] > 120e9 else 6000
        self.row("frozen linears, of cuBLASLt's best (%)", 97, 97, self.linears)
        self.row("LoRA linears, 8,192 rows, of the ceiling (%)", 80, 88, lambda: self.lora(self.size(8192, 20)))
        self.row("LoRA linears, 2,048 rows, of the ceiling (%)", 65, 74, lambda: self.lora(self.size(2048, 10)))
        self.row("attention forward, of SDPA flash (%)", 80, 95, lambda: self.attention(False, "flash"))
        self.row("attention with backward, of SDPA flash (%)", 70, 80, lambda: self.attention(True, "flash"))
        self.row("attention with backward, of SDPA's best (%)", 70, 80, lambda: self.attention(True, "best"))
        self.row("memory-bound kernels, of copying (%)", 88, 93, self.memory)
        self.row("AdamW, of copying (%)", 85, 90, self.adamw)
        count = self.size(16, 2)
        self.row("pairs a second, by pair, live (x)", 3.5, 4.5, lambda: self.ratio("published", "pair", False, count))
        self.row("step of 16 pairs, of the ceiling (%)", 65, 75, self.step_share)
        self.row("peak memory off the plan (%)", 10, 10, self.memory_of_plan, least=False)
        self.row("pairs a second, by pair, cached (x)", 5, 6, lambda: self.ratio("published", "pair", True, count))
        self.row("pairs a second, by image (x)", 10, 13, lambda: self.ratio("paper", "image", False, self.size(16, 1)))
        self.row("decode of one row, of copying (%)", 85, 90, self.decode)
        last = self.ceilings()
        return {"date": datetime.date.today().isoformat(), "facts": facts, "small": self.small,
                "ceilings": {"first": first, "last": last}, "rows": self.rows}


def table(result):
    lines = []
    for when in "first", "last":
        c = result["ceilings"][when]
        lines.append(f"ceiling {when}: {c['flops'] / 1e12:.1f} TFLOP/s, copying {c['bandwidth'] / 1e12:.3f} TB/s")
    lines.append(f"{'':46}{'figure':>9}{'must':>7}{'stretch':>9}")
    for r in result["rows"]:
        figure = f"{r['figure']:9.2f}" if "figure" in r else f"{'-':>9}"
        lines.append(f"{r['name']:46}{figure}{r['must']:7g}{r['stretch']:9g}  {r['verdict']}{': ' + r['why'] if 'why' in r else ''}")
    shares = [r["behind"]["their share of ceiling"] for r in result["rows"]
              if isinstance(r.get("behind"), dict) and "their share of ceiling" in r["behind"]]
    lines.append("the baselines' own shares of the ceiling: " + ", ".join(f"{100 * s:.0f} %" for s in shares))
    return "\n".join(lines)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("lucid")
    p.add_argument("--out", required=True)
    p.add_argument("--commit", default="unknown")
    p.add_argument("--small", action="store_true")
    o = p.parse_args()
    small = ["small"] if o.small else []
    bench = Bench(Side("lucid", [o.lucid, f"{HERE}/bench.lua", *small]),
                  Side("torch", [sys.executable, f"{HERE}/peers/serve.py", *small]), o.small)
    result = bench.run()
    result["commit"] = o.commit
    with open(o.out, "w") as f:
        json.dump(result, f, indent=2)
    print(table(result))
    print(f"{o.out}, commit {o.commit}" + ("; sizes were small: these figures test this file alone" if o.small else ""))


main()
