"""Sends tasks one by one to idle workers, and prints three moments of each: call, return, start of the handler."""

import importlib
import json
import sys
import time

PAUSE_SECONDS = 0.01

app = importlib.import_module(sys.argv[1])
moments = []
for _ in range(int(sys.argv[2])):
    called = time.time()
    answer = app.send_moment()
    moments.append((called, time.time(), answer()))
    time.sleep(PAUSE_SECONDS)
print(json.dumps({"moments": moments}))
