"""Run in a function's own process by `programs.Function`: answers events as Lambda's runtime does.

Writes a line of JSON when the function's module is imported, which is when Lambda could send it an event, and one for
each line that it reads: `{"events": […], "answers": true}`. Each says what was taken. Standard library only, and little
of it: what is imported here would be no cost of the function.
"""

import importlib
import json
import os
import sys
import time


class Context:
    """An invocation that has 45 seconds."""

    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    function_name = "function"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:ap-southeast-1:111122223333:function:function:live"

    def __init__(self) -> None:
        self._end = time.monotonic() + 45

    def get_remaining_time_in_millis(self) -> int:
        """As Lambda says it."""
        return int((self._end - time.monotonic()) * 1_000)


def took(cpu: float, wall: float) -> dict[str, float]:
    """Milliseconds of CPU since the process began, and of CPU and time since these; MiB at the peak until now."""
    started, now = time.process_time(), time.perf_counter()
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    spent = {"started": started, "cpu": started - cpu, "wall": now - wall}
    return {name: seconds * 1_000 for name, seconds in spent.items()} | {"memory": peak / 1_024}


def main() -> None:
    """Import, and answer until there are no more lines."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.memfd_create("log")
    os.dup2(log, 1)
    handler = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    told.write(json.dumps(took(0, 0) | {"answers": [], "log": ""}) + "\n")
    for line in sys.stdin:
        asked = json.loads(line)
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)
        answers = []
        cpu, wall = time.process_time(), time.perf_counter()
        for event in asked["events"]:
            answer = handler(event, Context())
            if asked["answers"]:
                answers.append(answer)
        sys.stdout.flush()
        spent = took(cpu, wall)
        text = os.pread(log, os.fstat(log).st_size, 0).decode() if asked["answers"] else ""
        told.write(json.dumps(spent | {"answers": answers, "log": text}) + "\n")


main()
