"""The peers of make gpu-bench: answers what bench.py asks, a line of JSON each.  serve.py [small]

PyTorch's own kernels, cuBLASLt with the best of all its algorithms, and HA-DPO's training step in transformers and PEFT.
small: on the CPU where there is no GPU, to test this file.
"""
import json
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import cublaslt
import hadpo

SMALL = "small" in sys.argv[1:]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
REPEATS, EACH = (2, 0) if SMALL else (5, 0.06)


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def run_for(f, n):
    wait()
    started = time.perf_counter()
    for _ in range(n):
        f()
    wait()
    return (time.perf_counter() - started) / n


def measure(f):
    n = max(1, int(EACH / max(run_for(f, 2), 1e-6)) + 1)
    return [run_for(f, n) for _ in range(REPEATS)]


def normal(*shape):
    return torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16)


def ceiling(size, seconds):
    """Sustained operations a second of square products."""
    a, b = normal(size, size), normal(size, size)
    once = run_for(lambda: a @ b, 2)
    return {"flops": 2 * size**3 / run_for(lambda: a @ b, max(2, int(seconds / once)))}


def copy(bytes):
    """Bytes a second, those that are read and those that are written."""
    x = torch.randint(0, 100, (bytes,), dtype=torch.uint8, device=DEVICE)
    y = torch.empty_like(x)
    return {"bandwidth": 2 * bytes / min(measure(lambda: y.copy_(x)))}


def linear(rows, n, k):
    x, w = normal(rows, k), normal(n, k)
    plain = measure(lambda: F.linear(x, w))
    if DEVICE == "cpu":
        return {"seconds": plain, "torch": min(plain), "algorithms": 0}
    best, count = cublaslt.best(x, w, lambda f: min(run_for(f, 10) for _ in range(3)))
    return {"seconds": measure(best), "torch": min(plain), "algorithms": count}


BACKENDS = {"flash": [SDPBackend.FLASH_ATTENTION],
            "best": [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]}


def attention(sequences, length, heads, d, backward, backend):
    q, k, v, dout = (normal(sequences, heads, length, d) for _ in range(4))
    for t in (q, k, v):
        t.requires_grad_(backward)

    def once():
        with torch.set_grad_enabled(backward):
            o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if backward:
            torch.autograd.grad(o, (q, k, v), dout)

    best = None
    for kind in BACKENDS[backend]:
        try:
            with sdpa_kernel(kind):
                seconds = measure(once)
        except RuntimeError:  # this backend does not take these shapes here
            continue
        if not best or min(seconds) < min(best["seconds"]):
            best = {"seconds": seconds, "backend": kind.name}
    if not best:
        raise RuntimeError("no backend of SDPA takes this")
    return best


loop = None


def step(pairs, steps):
    global loop
    loop = loop or hadpo.Loop(DEVICE, SMALL)
    batch = loop.batch(pairs)
    loop.step(batch)
    seconds = [run_for(lambda: loop.step(batch), 1) for _ in range(steps)]
    answer = {"seconds": seconds, "pairs": len(pairs), "tokens": loop.tokens(batch), "flops": loop.flops(batch),
              "loss": float(loop.loss)}
    free()
    return answer


def free():
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    return {}


COMMANDS = {f.__name__: f for f in (ceiling, copy, linear, attention, step, free)}


def main():
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    facts = {"ready": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", "torch": torch.__version__,
             "bytes": torch.cuda.get_device_properties(0).total_memory if DEVICE == "cuda" else 0, **hadpo.VERSIONS}
    print(json.dumps(facts), file=out, flush=True)
    for line in sys.stdin:
        what = json.loads(line)
        try:
            answer = COMMANDS[what.pop("do")](**what)
        except Exception as e:  # the next question may be answered
            answer = {"error": f"{type(e).__name__}: {e}"}
            free()
        print(json.dumps(answer), file=out, flush=True)


main()
