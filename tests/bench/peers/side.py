"""Programs that are asked for measurements in turns, and what their seconds say."""
import json
import os
import select
import statistics
import subprocess
import time


class Side:
    """A program that answers a line of JSON with a line of JSON."""

    def __init__(self, name, command):
        self.name, self.command = name, command
        self.program = None

    def start(self):
        self.program = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self.read(120)

    def read(self, limit):
        pipe, text = self.program.stdout, b""
        end = time.monotonic() + limit
        while not text.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
                self.program.kill()
                self.program = None
                raise RuntimeError(f"{self.name}: no answer in {limit:.0f} s")
            part = os.read(pipe.fileno(), 1 << 20)
            if not part:
                self.program = None
                raise RuntimeError(f"{self.name}: it ended")
            text += part
        return json.loads(text)

    def ask(self, limit=90, **what):
        if not self.program:
            self.start()
        self.program.stdin.write((json.dumps(what) + "\n").encode())
        self.program.stdin.flush()
        answer = self.read(limit)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer


def median(answers):
    """Of the seconds of some answers: their median and the middle half's width."""
    seconds = sorted(s for a in answers for s in a["seconds"])
    if len(seconds) < 4:
        return statistics.median(seconds), seconds[-1] - seconds[0]
    quarters = statistics.quantiles(seconds, n=4)
    return quarters[1], quarters[2] - quarters[0]
