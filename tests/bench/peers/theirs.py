"""The peers' side of peers.sh: a row is opened once, then run as often as it is asked; a line of JSON each, as ours.lua.

A row is a module of rows/: make(options) gives a function, of which one call is timed, or returns seconds itself.
"""
import importlib
import json
import os
import resource
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/rows")


class Side:
    def open(self, o):
        if o["row"] != "llama":  # which brings no torch
            import torch

            torch.manual_seed(0)
            torch.set_num_threads(o["threads"])
        self.call = importlib.import_module(o["row"]).make(o)
        if o.get("warm", True):
            self.run({})
        return {}

    def run(self, _):
        started = time.perf_counter()
        own = self.call()
        return {"seconds": [own if own is not None else time.perf_counter() - started]}

    def peak(self, _):
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    side = Side()
    print(json.dumps({"ready": "peers"}), file=answers, flush=True)
    for line in sys.stdin:
        o = json.loads(line)
        try:
            result = getattr(side, o["do"])(o)
        except Exception as e:  # the driver says which row it was
            result = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(result), file=answers, flush=True)


main()
