"""Sends so many tasks from this one process, by this function of the peer's, and prints how many a second."""

import importlib
import json
import sys
import time

app = importlib.import_module(sys.argv[1])
count, send = int(sys.argv[2]), getattr(app, sys.argv[3])
begun = time.perf_counter()
for _ in range(count):
    send()
print(json.dumps({"rate": count / (time.perf_counter() - begun)}))
