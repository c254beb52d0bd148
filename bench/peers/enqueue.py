"""Sends so many no-op tasks from this one process, and prints how many a second."""

import importlib
import json
import sys
import time

app = importlib.import_module(sys.argv[1])
count = int(sys.argv[2])
begun = time.perf_counter()
for _ in range(count):
    app.send()
print(json.dumps({"rate": count / (time.perf_counter() - begun)}))
