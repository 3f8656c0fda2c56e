"""A series over every reader: `PYTHONPATH=src:tests python -m fuzz --inputs 100000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import series
from fuzz.readers import READERS, Files, Link, Pipe

if TYPE_CHECKING:
    from fuzz.series import Tally


def main() -> int:
    """Run a series, or read one kept input again; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Feed every reader with damaged files.")
    parser.add_argument("--inputs", type=int, default=3000, help="inputs over all readers")
    parser.add_argument("--seed", type=int, default=0, help="decides what is drawn")
    parser.add_argument("--readers", nargs="+", choices=list(READERS), default=list(READERS), help="these alone")
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="a folder for failing inputs")
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="read one kept input again, as KEEP/READER/0000")
    asked = parser.parse_args()
    if asked.again:
        return again(asked.again)
    started = time.perf_counter()
    whole = sum(READERS[name].share for name in asked.readers)
    counts = {name: max(1, round(asked.inputs * READERS[name].share / whole)) for name in asked.readers}
    tallies = series.run(counts, asked.seed, asked.keep)
    print(table(tallies))
    print(f"seed {asked.seed}, {time.perf_counter() - started:.0f} s")
    for name, tally in tallies.items():
        for what, folder in different(tally.failures):
            print(f"\n{name} {folder}\n{what}")
    return int(any(tally.failures for tally in tallies.values()))


def table(tallies: dict[str, Tally]) -> str:
    """A row a reader and one for all: what its inputs came to, the slowest and the hungriest of them."""
    lines = ["reader          inputs  accepted   refused    failed   worst s   peak MB"]
    rows = [(name, [tally]) for name, tally in tallies.items()]
    for name, some in [*rows, ("all", list(tallies.values()))]:
        inputs, failed = sum(t.inputs for t in some), sum(len(t.failures) for t in some)
        accepted, refused = (sum(t.kinds[kind] for t in some) for kind in ("accepted", "refused"))
        worst, peak = max(t.slowest for t in some), max(t.peak for t in some) / 1e6
        lines.append(f"{name:<12} {inputs:>9,} {accepted:>9,} {refused:>9,} {failed:>9,} {worst:>9.3f} {peak:>9.1f}")
    return "\n".join(lines)


def different(failures: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """One failure of each sort: those that went wrong in the same line are of one."""
    sorts: dict[str, tuple[str, Path]] = {}
    for what, folder in failures:
        places = [line for line in what.splitlines() if line.strip().startswith("File ")]
        sorts.setdefault("".join([what.split("\n")[0], *places[-2:]]) if places else what[:40], (what, folder))
    return list(sorts.values())


def again(kept: Path) -> int:
    """Read a kept input as a series does, and print the verdict."""
    root = kept.absolute() / "input"
    paths = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    files: Files = {str(path.relative_to(root)): _content(path) for path in paths}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        bench = series.Bench(Path(home))
        bench.warm_up([kept.absolute().parent.name])
        verdict = bench.judge(kept.absolute().parent.name, files)
    print(f"{verdict.kind}, {verdict.seconds:.3f} s, {verdict.peak / 1e6:.1f} MB\n{verdict.detail}")
    return int(verdict.failed)


def _content(path: Path) -> bytes | Link | Pipe:
    if path.is_symlink():
        return Link(str(path.readlink()))
    return Pipe() if path.is_fifo() else path.read_bytes()


if __name__ == "__main__":
    sys.exit(main())
