"""Sends tasks one by one to idle workers, and prints how long after the sending each handler started."""

import importlib
import json
import sys
import time

PAUSE_SECONDS = 0.01

app = importlib.import_module(sys.argv[1])
seconds = []
for _ in range(int(sys.argv[2])):
    answer = app.send_moment()
    sent = time.time()
    seconds.append(answer() - sent)
    time.sleep(PAUSE_SECONDS)
print(json.dumps({"seconds": seconds}))
