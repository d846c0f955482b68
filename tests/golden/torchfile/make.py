"""Small files of torch.save and what torch reads back from them.

python make.py    writes *.pth and golden.json beside itself
"""
import argparse
import collections
import json
import pathlib
import sys

import torch

HERE = pathlib.Path(__file__).parent


def values(t):
    return t.to(torch.float64).reshape(-1).tolist()


def state():
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    d = collections.OrderedDict()
    d["whole"] = base
    d["turned"] = base.t()
    d["part"] = base[1:3, 2:5]
    d["row"] = base[2]
    d["cube"] = base.reshape(2, 2, 6).permute(2, 0, 1)
    d["parameter"] = torch.nn.Parameter(base[0].clone())
    d["scalar"] = torch.tensor(2.5)
    d["empty"] = torch.empty(0, 3)
    d["one"] = torch.ones(1, 1, 3)[:, :, 1:2]
    d["half"] = base.half()
    d["bfloat"] = base.bfloat16()
    d["int"] = torch.arange(-2, 3, dtype=torch.int32)
    d["byte"] = torch.arange(5, dtype=torch.uint8)
    d["long"] = torch.arange(3)
    d["double"] = base[0].double()
    d["bool"] = torch.tensor([True, False])
    d["tied"] = d["whole"]
    return d


def nested():
    """Shaped as MiniGPT-4's training writes it."""
    model = collections.OrderedDict(
        [("llama_proj.weight", torch.arange(6.0).reshape(2, 3)), ("llama_proj.bias", torch.tensor([7.0, 8.0]))])
    p = [torch.nn.Parameter(t) for t in model.values()]
    optimizer = torch.optim.AdamW(p, lr=0.1)
    sum((x * x).sum() for x in p).backward()
    optimizer.step()
    return {
        "model": model, "optimizer": optimizer.state_dict(), "epoch": 3, "scaler": {"scale": 65536.0},
        "config": {"run": {"lr": 0.1, "name": "x", "amp": True, "none": None}},
        "args": argparse.Namespace(lr=0.1, names=["a", "b"]),
        "list": [torch.ones(2), (torch.zeros(1),)],
        "big": 2**70,
    }


def attributed():
    p = torch.nn.Parameter(torch.arange(3.0))
    p.mark = "kept"
    t = torch.arange(2.0)
    t.mark = 1
    return {"parameter": p, "tensor": t}


def walk(value, name, out):
    if isinstance(value, torch.Tensor):
        out[name] = {"shape": list(value.shape), "dtype": str(value.dtype).split(".")[1], "values": values(value)}
    elif isinstance(value, dict):
        for k, v in value.items():
            walk(v, f"{name}.{k}" if name else str(k), out)
    elif isinstance(value, (list, tuple)):
        for i, v in enumerate(value):
            walk(v, f"{name}.{i}" if name else str(i), out)


def main():
    torch.manual_seed(0)
    golden = {"versions": {"python": sys.version.split()[0], "torch": torch.__version__}}
    young = {"u16": torch.arange(3).to(torch.uint16), "f8": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn)}
    files = {
        "plain.pth": (state(), {}),
        "before16.pth": (state(), {"_use_new_zipfile_serialization": False}),
        "nested.pth": (nested(), {}),
        "protocol4.pth": (nested(), {"pickle_protocol": 4}),
        "attributed.pth": (attributed(), {}),
        "attributed_before16.pth": (attributed(), {"_use_new_zipfile_serialization": False}),
        "young.pth": (young, {}),
        "metadata.pth": (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict(), {}),
        "alone.pth": (torch.arange(4.0), {}),
    }
    for name, (value, options) in files.items():
        torch.save(value, HERE / name, **options)
        out = {}
        walk(torch.load(HERE / name, weights_only=False), "", out)
        golden[name] = out
    golden["alone.pth"] = {"tensor": golden["alone.pth"].pop("")}
    module = torch.nn.Linear(2, 1)
    torch.save(module, HERE / "module.pth")
    (HERE / "golden.json").write_text(json.dumps(golden, indent=0) + "\n")


main()
