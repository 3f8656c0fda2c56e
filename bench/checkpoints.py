"""What checkpoints cost: their share of the time of a training, on the source and model given.

    python bench/checkpoints.py [SOURCE] [MODEL] [EPOCHS] [SAVE_EVERY]

Trains in a new folder as `kilonet train` does, and adds up the seconds that its checkpoints take, flushing included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kilonet import config, run, world
from kilonet.progress import Progress

if TYPE_CHECKING:
    from kilonet.state import State


def main() -> None:
    source, model, epochs, every = [*sys.argv[1:], *["mnist-5k", "kilo-16k", "10", "30"][len(sys.argv) - 1 :]]
    chosen = config.resolve({"source": source, "model": model, "save_every": float(every)}, {"epochs": int(epochs)})
    costs: list[float] = []
    save = Progress.save

    def timed(progress: Progress, state: State) -> None:
        start = time.perf_counter()
        save(progress, state)
        costs.append(time.perf_counter() - start)

    Progress.save = timed  # type: ignore[method-assign,assignment]
    with tempfile.TemporaryDirectory() as folder:
        made = run.plan(replace(chosen))
        found = run.start(made, Path(folder))
        run.finish(found, made)
        seconds = sum(record.seconds for record in found.history().epochs)
    print(f"{source}, {model}, {epochs} epochs, {world.set_threads(None)} threads, a checkpoint every {every} s")
    print(f"training {seconds:.2f} s, {len(costs)} checkpoints {sum(costs):.3f} s: {100 * sum(costs) / seconds:.2f} %")


if __name__ == "__main__":
    main()
