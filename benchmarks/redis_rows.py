"""Microseconds per session written to and taken from Redis and SQLite, in batches.

    python benchmarks/redis_rows.py [--smoke]

Starts redis-server (Debian's package) on a free port of the loopback interface, with
`appendonly yes` and `appendfsync everysec`. Processor time, medians of rounds; what is read is
compared with what was written first.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from server_process import free_port, processor_seconds

from memorycell.server.durable import SqliteStore, Store, StoredSession
from memorycell.server.redis_store import RedisStore


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="small sizes")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed")
    rounds, batch = (2, 16) if options.smoke else (30, 256)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        words = f"--port {port} --bind 127.0.0.1 --appendonly yes --appendfsync everysec".split()
        process = subprocess.Popen(
            ["redis-server", *words, "--save", "", "--dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            redis = RedisStore(f"redis://127.0.0.1:{port}/0")
            sqlite = SqliteStore(Path(folder) / "sessions.sqlite")
            for size in (512, 2048):
                _print("Redis", size, measure(redis, size, rounds, batch, process.pid))
                _print("SQLite", size, measure(sqlite, size, rounds, batch, None))
            redis.close()
            sqlite.close()
        finally:
            process.kill()
            process.wait()


def measure(store: Store, size: int, rounds: int, batch: int, pid: int | None) -> dict[str, float]:
    """Microseconds per row: put and take, of this process, of the store's own, by the clock."""
    note = b'{"durable": "step"}'
    rows = [
        StoredSession("lstm", f"{size}-{k}", "f" * 16, 7, os.urandom(size), note)
        for k in range(batch)
    ]
    store.put(rows)
    if [store.get(*row.key) for row in rows] != rows:
        sys.exit("what is read is not what was written: not timed")
    put, wall = [], []
    other = 0.0 if pid is None else processor_seconds(pid)
    for step in range(rounds):
        later = [row._replace(steps=step) for row in rows]
        cpu, began = time.process_time(), time.perf_counter()
        store.put(later)
        put.append((time.process_time() - cpu) / batch)
        wall.append((time.perf_counter() - began) / batch)
    if pid is not None:
        other = (processor_seconds(pid) - other) / (rounds * batch)
    cpu = time.process_time()
    for row in rows:
        store.take(*row.key)
    take = (time.process_time() - cpu) / batch
    return {
        "put": 1e6 * statistics.median(put),
        "put of the server": 1e6 * other,
        "put by the clock": 1e6 * statistics.median(wall),
        "take": 1e6 * take,
    }


def _print(name: str, size: int, figures: dict[str, float]) -> None:
    values = ", ".join(f"{key} {value:.1f} µs" for key, value in figures.items())
    print(f"{name:6} {size:5} bytes: {values}", flush=True)


if __name__ == "__main__":
    main()
