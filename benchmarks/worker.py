"""One of several processes that share a backlog: waits for a word, works, and says what its share was.

``python -m benchmarks.worker NAME URL INSTANT``, with the name of one of the sweeps' figures, prints ``ready``,
starts at a line on standard input, and prints JSON: how many accounts moved or tasks were delivered, and when
it found nothing more, in seconds of the monotonic clock.
"""

import json
import sys
import time
from datetime import datetime

from benchmarks.lab import UNBRAKED, confirm
from benchmarks.sweeps import ours, warm_up
from lifecycle import Effect, Engine, ManualClock


def main() -> None:
    name, url, instant = sys.argv[1:]
    clock = ManualClock(datetime.fromisoformat(instant))
    engine = Engine(url, clock=clock, handlers=dict.fromkeys(Effect, confirm), safety=UNBRAKED)
    warm = warm_up(engine, name)
    print("ready", flush=True)
    sys.stdin.readline()
    done = ours(engine, name)
    print(json.dumps({"warm": warm, "done": done, "ended": time.monotonic()}), flush=True)


if __name__ == "__main__":
    main()
