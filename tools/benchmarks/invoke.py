"""Run by `lambdas`, in a function's own process: answers events as Lambda's runtime does, and says what they took.

Reads lines of JSON, `{"events": […], "answers": true}`; what the function logs is counted. Standard library only, and
little of it: what is imported here would be no cost of the function.
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


def main() -> None:
    """Answer until there are no more lines; then tell the process's peak of memory, among all else of its status."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.memfd_create("log")
    os.dup2(log, 1)
    handler = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        asked = json.loads(line)
        answers = []
        sys.stdout.flush()
        os.ftruncate(log, 0)
        os.lseek(log, 0, os.SEEK_SET)
        cpu, wall = time.process_time(), time.perf_counter()
        for event in asked["events"]:
            answer = handler(event, Context())
            if asked.get("answers"):
                answers.append(answer)
        sys.stdout.flush()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = os.fstat(log).st_size
        text = os.pread(log, size, 0).decode() if asked.get("answers") else ""
        told.write(json.dumps({"answers": answers, "cpu": cpu, "wall": wall, "logged": size, "log": text}) + "\n")
    with open("/proc/self/status") as status:
        sys.stderr.write(status.read() if len(sys.argv) > 3 else "")


main()
