"""A paid run killed with SIGKILL at random moments: the budget holds, no reply is lost or paid for twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

from endpoints import Endpoint, answer, requested, stored
from synthembed.generation.cost import price
from synthembed.generation.reply_store import ReplyStore

KILLS, BUDGET = int(os.environ.get("KILLS", "4")), 2.0  # KILLS=20 by hand

# Imports once and forks a run for every line that it reads; tells its process id, then that it ended.
FORKS_RUNS = """
import os, sys
from pathlib import Path
import synthembed.generation.live
from endpoints import live
from synthembed.generation import two_steps
more = ["generate.examples=200", "generate.concurrency=4", "generate.families={sts: 1}", "generate.models={gpt-4o: 1}"]
for line in sys.stdin:
    if not (child := os.fork()):
        try:
            two_steps.generate(live(sys.argv[1], *more, f"generate.budget_usd={line.strip()}", "generate.timeout_s=60"), Path(sys.argv[2]))
        except Exception:
            pass
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_budget_holds_through_kills(tmp_path):
    answered, billed, lock = Counter(), [0.0], threading.Lock()

    def script(body, number):
        """Every request is billed in full when it comes in, as the dearest endpoint would."""
        time.sleep(0.02)
        reply = answer(body)
        used = {"prompt_tokens": len(body["messages"][0]["content"]) // 4, "completion_tokens": 2048}
        with lock:
            billed[0] += price("gpt-4o", *used.values(), False)
            answered[body["seed"]] += 1
        return 200, reply | {"usage": used}

    server = Endpoint(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    runs = subprocess.Popen(
        [sys.executable, "-c", FORKS_RUNS, server.url, str(tmp_path)], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
    )  # fmt: skip
    rng, kept = random.Random(KILLS), Counter()

    def run(budget: float, kill: bool) -> None:
        asked = sum(server.asked.values())
        runs.stdin.write(f"{budget}\n")
        child = int(runs.stdout.readline())
        ended = threading.Thread(target=runs.stdout.readline)
        ended.start()
        while kill and sum(server.asked.values()) == asked and ended.is_alive():
            time.sleep(0.005)
        if kill:
            time.sleep(rng.uniform(0, 0.3))
            if ended.is_alive():
                os.kill(child, signal.SIGKILL)
        ended.join()
        time.sleep(0.1)  # the server ends what it was asked

    for number in range(KILLS):
        before = Counter(server.asked)
        run(BUDGET, kill=True)
        again = {seed for seed in kept if server.asked[seed] > before[seed]}
        assert not again, "a stored reply was paid for again"
        store = ReplyStore(tmp_path / "replies.jsonl")
        store.close()
        seeds = {line["custom_id"]: line["body"]["seed"] for line in _whole(tmp_path / "requests.jsonl")}
        kept = Counter(seeds[i] for i in store.ids if i in seeds)
        assert sum(answered.values()) - len(store.ids) <= 4 * (number + 1), "more is lost than was in flight"
        assert billed[0] <= BUDGET
    run(BUDGET, kill=False)
    assert billed[0] <= BUDGET, "the endpoint billed more than the budget"
    assert billed[0] > 0.1 * BUDGET, "kills cost the budget without a reply"
    run(100, kill=False)
    runs.stdin.close()
    assert runs.wait() == 0
    ids = stored(tmp_path)
    assert len(ids) == len(set(ids)) and set(ids) == requested(tmp_path)
    assert sum(answered.values()) - len(ids) <= 4 * KILLS


def _whole(path):
    """The whole lines of a file whose writer was killed."""
    for line in path.read_bytes().split(b"\n"):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
