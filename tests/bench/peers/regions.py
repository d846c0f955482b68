"""Visual Genome's region file as Python's json reads it, ready to look up by picture: seconds and the most memory.
regions.py FILE"""
import json
import resource
import sys
import time

started = time.perf_counter()
with open(sys.argv[1]) as f:
    by_picture = {r["regions"][0]["image_id"]: r["regions"] for r in json.load(f) if r["regions"]}
seconds = time.perf_counter() - started
print(json.dumps({"seconds": [seconds], "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                  "records": len(by_picture)}))
