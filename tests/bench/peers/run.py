"""What peers.sh runs: every row of the table, ours and theirs in turns, with ratios; status 1 when a row falls short.

    run.py LUCID [--rows NAME,NAME] [--rounds N] [--layers N] [--images N] [--pictures N] [--threads N] [--out FILE]

Both sides of a row are programs that stay alive while it is measured and take turns, another one first every round. A
ratio is theirs over ours within a round: the median of the rounds, with the lowest and highest. It has to reach the
figure in the table.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from side import Side

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(f"{HERE}/../../..")
LONG = 7200  # seconds that a step may take


def others(since=None):
    """Cores that all programs kept busy since an earlier call; the measured ones are among them."""
    with open("/proc/stat") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    now = time.monotonic(), (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
    return now if since is None else (now[1] - since[1]) / (now[0] - since[0])


class Bench:
    def __init__(self, options):
        self.o, self.rows = options, []

    # ---- sides

    def lucid(self, *words):
        return [self.o.lucid, *words]

    def pair(self, row, peer=None, **what):
        """Both sides of a row, opened: theirs takes over what ours says of itself."""
        folder = tempfile.mkdtemp(dir=self.o.folder)
        what = {"folder": folder, "threads": self.o.threads, **what}
        ours = Side("lucid", self.lucid(f"{HERE}/ours.lua"))
        theirs = Side(peer or row, [sys.executable, f"{HERE}/theirs.py"])
        told = ours.ask(limit=LONG, do="open", row=row, **what)
        theirs.ask(limit=LONG, **{**what, **told, "do": "open", "row": peer or row})
        return ours, theirs

    def close(self, *sides):
        for side in sides:
            if side.program:
                side.program.stdin.close()
                side.program.wait()

    def turns(self, ours, theirs, rounds=None, pieces=1):
        """Each is a function that gives an answer; pairs of answers, a round each. Where a machine's memory changes its speed
        from one second to the next, a round is of several pieces: lists of answers then."""
        print("  ready", file=sys.stderr, flush=True)
        answers = []
        for i in range(rounds or self.o.rounds):
            got = {ours: [], theirs: []}
            for piece in range(pieces):
                for f in [ours, theirs] if (i + piece) % 2 == 0 else [theirs, ours]:
                    got[f].append(f())
            answers.append((got[ours], got[theirs]) if pieces > 1 else (got[ours][0], got[theirs][0]))
        return answers

    # ---- the table

    def add(self, name, must, ratios, behind, least=None):
        """ratios: a round each; must: of their median; least: of the lowest."""
        middle = statistics.median(ratios)
        passed = middle >= must and (least is None or min(ratios) >= least)
        self.rows.append({"name": name, "must": must, "ratio": middle, "low": min(ratios), "high": max(ratios),
                          "rounds": len(ratios), "passed": passed, "behind": behind})
        print(line(self.rows[-1]), flush=True)

    def compare(self, name, must, answers, least=None, of="seconds", **behind):
        def figure(a):
            if isinstance(a, list):
                return statistics.median(map(figure, a))
            return statistics.median(a[of]) if isinstance(a[of], list) else a[of]

        def ratio(a, b):
            if isinstance(a, list):  # of what ran side by side: between pieces the machine may have changed
                return statistics.median(map(ratio, a, b))
            return figure(b) / figure(a)

        behind.update(ours=[figure(a) for a, _ in answers], theirs=[figure(b) for _, b in answers])
        self.add(name, must, [ratio(a, b) for a, b in answers], behind, least)

    def asked(self, name, must, row, peer=None, least=None, rounds=None, pieces=1, **what):
        """A row whose sides are opened once and run in turns."""
        ours, theirs = self.pair(row, peer, **what)
        try:
            answers = self.turns(lambda: ours.ask(limit=LONG, do="run"), lambda: theirs.ask(limit=LONG, do="run"), rounds, pieces)
            self.compare(name, must, answers, least)
        finally:
            self.close(ours, theirs)

    # ---- rows

    def dpo(self, mix, musts, peer="dpo"):
        """Ours by pair and by picture, beside one step of theirs, which takes minutes and knows no such difference."""
        what = f"DPO step, {self.o.layers} layers of 7B, {mix} mix, {self.o.images} images"
        ours, theirs = self.pair("dpo", peer, mix=mix, groups=list(musts), layers=self.o.layers, images=self.o.images,
                                 tokens_at_once=2048, batch=4, warm=False)
        try:
            answers = self.turns(lambda: {group: ours.ask(limit=LONG, do="run", group=group) for group in musts},
                                 lambda: theirs.ask(limit=LONG, do="run"))
            for group, must in musts.items():
                self.compare(f"{what}, by {group}, against {'TRL + PEFT' if peer == 'dpo' else 'the HA-DPO loop'}", must,
                             [(a[group], b) for a, b in answers])
            if peer == "dpo":
                peaks = [side.ask(do="peak")["bytes"] for side in (ours, theirs)]
                self.add("peak memory of it", 2, [peaks[1] / peaks[0]], {"ours": peaks[:1], "theirs": peaks[1:]})
        finally:
            self.close(ours, theirs)

    def demo(self, kind, must):
        folder = tempfile.mkdtemp(dir=self.o.folder)
        subprocess.run(self.lucid(f"{HERE}/../steps.lua", "prepare", folder), check=True)
        torch = [sys.executable, f"{HERE}/torch_tiny.py", f"{folder}/model", f"{folder}/features.safetensors",
                 f"{HERE}/../data/tiny_steps.json", "--threads", str(self.o.threads)]
        ours = Side("lucid", self.lucid(f"{HERE}/../steps.lua", "run", folder, str(self.o.threads)))
        peers = [Side("eager", torch), Side("causal", torch + ["--causal-only"]),
                 Side("compiled", torch + ["--compile", "--causal-only"])]
        try:
            first = [s.ask(limit=LONG, do=kind, steps=8)["loss"] for s in [ours, *peers]]
            if max(first) - min(first) > 1e-3:
                raise RuntimeError(f"the sides' first losses differ: {first}")
            best = min(peers, key=lambda s: statistics.median(s.ask(limit=LONG, do=kind, steps=8)["seconds"]))
            answers = self.turns(lambda: ours.ask(limit=LONG, do=kind, steps=8), lambda: best.ask(limit=LONG, do=kind, steps=8),
                                 max(9, self.o.rounds))
            self.compare(f"demo {kind.upper()} step, against PyTorch ({best.name}, the best)", must, answers, losses=first)
        finally:
            self.close(ours, *peers)

    def limits(self):
        """Products and decoding as lucid bench has them, of oneDNN and of the bandwidth."""
        done = subprocess.run(self.lucid("bench", "--suite", "cpu", "--only", "linear,decode", "--rounds", "15", "--json",
                                         "--quiet"),
                              stdout=subprocess.PIPE, text=True)
        rows = [r for r in json.loads(done.stdout)["cpu"]["rows"] if r["group"] == "linear" or r["count"] == 1]
        withheld = [r["about"] for r in rows if "withheld" in r and not r["about"].endswith("nf4")]
        if withheld:
            raise RuntimeError(f"the machine was busy, or rounds differed: {'; '.join(withheld)}")
        shares = [r["of_onednn"] for r in rows if "of_onednn" in r]
        if shares:
            self.add("products at the model's shapes, the worst, of oneDNN's best form", 0.97, [min(shares)], shares)
        for kind in ["random weights", "q8_0"]:
            one = next(r for r in rows if r["group"] == "decode" and r["about"].endswith(kind))
            kind = "bf16" if kind == "random weights" else kind
            self.add(f"decode of one row, {kind}, of the bandwidth", 0.9, [one["share"]], one)

    def decode(self, must, peer, quant=None, least=None, answers=1):
        name = {"decode": "transformers", "llama": "llama.cpp"}[peer]
        many = f", {answers} answers at once" if answers > 1 else ""
        self.asked(f"decode, {self.o.layers} layers of 7B, {quant or 'bf16'}{many}, against {name}", must, "decode", peer, least,
                   rounds=max(7, self.o.rounds), pieces=12, layers=self.o.layers, prompt=64, tokens=8, answers=answers,
                   **({"quant": quant} if quant else {}))

    def regions(self):
        path = f"{self.o.folder}/regions.json"
        subprocess.run(self.lucid(f"{HERE}/regions.lua", "make", path, str(self.o.pictures)), check=True,
                       stdout=subprocess.DEVNULL)

        def told(*command):
            return lambda: json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

        answers = self.turns(told(*self.lucid(f"{HERE}/regions.lua", path)), told(sys.executable, f"{HERE}/regions.py", path))
        os.remove(path)
        if any(a["records"] != b["records"] for a, b in answers):
            raise RuntimeError("the sides found different records")
        self.compare("region file ready to look up, against Python's json", 10, answers, records=answers[0][0]["records"])
        self.compare("memory of it", 10, answers, of="bytes")

    def startup(self):
        def timed(*command):
            def run():
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                return {"seconds": [time.perf_counter() - started]}
            return run

        ours, theirs = timed(*self.lucid("inspect", "--help")), timed(sys.executable, "-c", "import torch, trl")
        ours(), theirs()  # their files are in memory from here on
        self.compare("start-up to a recipe's first line, against importing torch and trl", 100, self.turns(ours, theirs))

    def questions(self, once, must):
        self.asked(f"POPE on a small LLaVA, {'trees and equal questions once' if once else 'trees alone'}, against one by one",
                   must, "questions", once=once, images=self.o.images)

    def run(self):
        rows = {
            "dpo-paper": lambda: self.dpo("paper", {"pair": 3, "image": 8}),
            "dpo-published": lambda: self.dpo("published", {"pair": 2.5, "image": 4.5}),
            "loop-paper": lambda: self.dpo("paper", {"pair": 3, "image": 8}, "loop"),
            "demo-sft": lambda: self.demo("sft", 2),
            "demo-dpo": lambda: self.demo("dpo", 4),
            "limits": self.limits,
            "llama-bf16": lambda: self.decode(1, "llama", least=0.97),
            "llama-q8_0": lambda: self.decode(1, "llama", "q8_0", least=0.97),
            "transformers": lambda: self.decode(2, "decode"),
            "transformers-8": lambda: self.decode(2, "decode", answers=8),
            "pope-trees": lambda: self.questions(False, 10),
            "pope-once": lambda: self.questions(True, 15),
            "pictures": lambda: self.asked("pictures decoded, resized, normalised, against Pillow + processor", 2, "pictures",
                                           images=64),
            "regions": self.regions,
            "startup": self.startup,
        }
        wanted = self.o.rows.split(",") if self.o.rows else list(rows)
        for name in wanted:
            if name not in rows:
                sys.exit(f"peers: there is no row '{name}'; there are {', '.join(rows)}")
        for name in wanted:
            print(f"{name}:", file=sys.stderr, flush=True)
            before = others()
            try:
                rows[name]()
            except Exception as e:  # a row that breaks is a row of the table
                self.rows.append({"name": name, "passed": False, "why": str(e).splitlines()[0] if str(e) else repr(e)})
                print(line(self.rows[-1]), flush=True)
            self.rows[-1]["busy"] = others(before)


def line(r):
    if "why" in r:
        return f"{r['name']}: not measured: {r['why']}"
    verdict = "" if r["passed"] else "  falls short"
    return f"{r['name']}: {r['ratio']:.2f}x ({r['low']:.2f} to {r['high']:.2f}), {r['must']:g}x is asked{verdict}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("lucid")
    p.add_argument("--rows", default="")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--images", type=int, default=4)
    p.add_argument("--pictures", type=int, default=108077, help="of the region file; the default is the published number")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--out")
    o = p.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(o.threads)
    with tempfile.TemporaryDirectory() as o.folder:
        bench = Bench(o)
        bench.run()
    if o.out:
        with open(o.out, "w") as f:
            sizes = {name: getattr(o, name) for name in ("rounds", "layers", "images", "pictures", "threads")}
            json.dump({"sizes": sizes, "rows": bench.rows}, f, indent=2)
    short = [r["name"] for r in bench.rows if not r["passed"]]
    print(f"{len(bench.rows) - len(short)} of {len(bench.rows)} rows reach what is asked")
    sys.exit(1 if short else 0)


main()
