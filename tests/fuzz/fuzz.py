"""make fuzz: many cases on all cores, from a seed that is printed.

    python tests/fuzz/fuzz.py --minutes 10 [--seed 0] [--cases 100000] [--only TEXT] [--processes 1]
    python tests/fuzz/fuzz.py --case "model: chat" --number 17   one case again, with traceback

The inputs that fail are written to build/fuzz/, each with what is wrong and how to run it again. A
process that dies, or answers no more, is a failure of the case it was at.
"""

import argparse
import collections
import multiprocessing
import os
import re
import secrets
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import torch
from subjects import NAMES, case, subject

OUT = Path(__file__).parents[2] / "build" / "fuzz"
BATCH = 20
"""Cases of one subject in a row."""
MAX_SECONDS = 300.0
"""Without an answer; then a process is stopped."""
MAX_WRITTEN = 20
"""Inputs that are written of one kind of failure."""


def main() -> int:
    """The number of kinds of failures, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--cases", type=int, default=None)
    parser.add_argument("--only", default="")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", default=None)
    parser.add_argument("--number", type=int, default=0)
    options = parser.parse_args()
    if options.case is not None:
        return repeat(options.case, options.number)
    names = [name for name in NAMES if options.only in name]
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    print(f"seed {seed}, {len(names)} subjects, {options.processes} processes", flush=True)
    return run(names, seed, 60 * options.minutes, options.cases, options.processes)


def run(names: list[str], seed: int, seconds: float, cases: int | None, processes: int) -> int:
    """Hand out batches of cases until the time or the cases end. Every subject gets equal time."""
    end = time.monotonic() + seconds
    workers = [Worker() for _ in range(processes)]
    report, started = Report(), 0
    spent = dict.fromkeys(names, 0.0)
    following = dict.fromkeys(names, seed * 10**6)
    while workers:
        for worker in list(workers):
            report.add(worker.answers())
            if worker.busy:
                continue
            if worker.name is not None:
                spent[worker.name] += worker.seconds
            if time.monotonic() > end or (cases is not None and started >= cases):
                worker.stop()
                workers.remove(worker)
                continue
            name = min(spent, key=lambda name: spent[name])
            spent[name] += 0.01  # another process takes another subject
            worker.start(name, following[name])
            following[name] += BATCH
            started += BATCH
        time.sleep(0.001)
    return report.end()


class Report:
    """Counts the cases, and writes the inputs that failed."""

    def __init__(self) -> None:
        self.done: collections.Counter[str] = collections.Counter()
        self.failures: collections.Counter[tuple[str, str]] = collections.Counter()

    def add(self, answers: list[tuple[str, int, bytes, str | None]]) -> None:
        """The cases that a process has done: name, number, input, what is wrong."""
        for name, number, data, wrong in answers:
            self.done[name] += 1
            if wrong is None:
                continue
            kind = (name, re.sub(r"\d+|'.*", "", wrong)[:120])
            self.failures[kind] += 1
            if self.failures[kind] <= MAX_WRITTEN:
                OUT.mkdir(parents=True, exist_ok=True)
                stem = re.sub(r"\W+", "-", name) + f"-{number}"
                (OUT / f"{stem}.bin").write_bytes(data)
                again = f'python tests/fuzz/fuzz.py --case "{name}" --number {number}'
                (OUT / f"{stem}.txt").write_text(f"{wrong}\n{again}\n", errors="replace")
                print(f"{name} {number}: {wrong}", flush=True)

    def end(self) -> int:
        """Print the counts; 1 where something failed."""
        groups: collections.Counter[str] = collections.Counter()
        for name, count in self.done.items():
            groups[name.split(":")[0]] += count
        print(", ".join(f"{group} {count:,}" for group, count in groups.items()))
        failed = sum(self.failures.values())
        print(f"{self.done.total():,} cases, {failed:,} failures of {len(self.failures)} kinds")
        return int(failed > 0)


class Worker:
    """A process that runs batches."""

    def __init__(self) -> None:
        self.busy = False
        self.name: str | None = None
        self.seconds = 0.0
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def start(self, name: str, first: int) -> None:
        """Begin a batch."""
        self._pipe.send((name, first))
        self.busy, self.name, self._at = True, name, (name, first)
        self._since = self._began = time.monotonic()

    def answers(self) -> list[tuple[str, int, bytes, str | None]]:
        """The cases done since the last call."""
        found: list[tuple[str, int, bytes, str | None]] = []
        if not self.busy:
            return found
        try:
            while self._pipe.poll():
                answer = self._pipe.recv()
                if answer is None:
                    self.busy, self.seconds = False, time.monotonic() - self._began
                    return found
                self._since = time.monotonic()
                found.append(answer)
                self._at = (answer[0], answer[1] + 1)
        except EOFError:
            self._process.join()
            return [*found, self._dead(f"the process ended with {self._process.exitcode}")]
        if time.monotonic() - self._since > MAX_SECONDS:
            self._process.kill()
            return [*found, self._dead("no answer")]
        return found

    def _dead(self, wrong: str) -> tuple[str, int, bytes, str]:
        self.busy, self.seconds = False, time.monotonic() - self._began
        self._begin()
        return (*self._at, b"", wrong)

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()


def work(pipe: Connection) -> None:
    """Run batches until None is received."""
    torch.set_num_threads(1)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(sys.stderr.fileno(), 2)
    while (batch := pipe.recv()) is not None:
        name, first = batch
        for number in range(first, first + BATCH):
            data, wrong = case(name, number)
            pipe.send((name, number, b"" if wrong is None else data, wrong))
        pipe.send(None)


def repeat(name: str, number: int) -> int:
    """Run one case without the oracle, so that its traceback is seen."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    draw = Random(f"{name}#{number}")
    tested = subject(name)
    tested.check(tested.mutated(draw), draw)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
