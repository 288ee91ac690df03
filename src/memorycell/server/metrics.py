"""Metrics in the format of Prometheus, with a registry of their own.

Steps are counted per batch, not per step: a batch of 64 costs a few microseconds here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

LATENCY_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
    *(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Histogram:
    """Counts of values below bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = np.array(bounds, np.float64)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """One value, or several that are equal."""
        self._counts[int(self._bounds.searchsorted(value))] += times
        self._sum += value * times

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """For Prometheus."""
        total, buckets = 0, []
        for bound, count in zip([*self._bounds, float("inf")], self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), total))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self._sum)


class Metrics:
    """What a server counts. `gauges` gives the values that are looked up when they are asked for:
    name -> (text, value).
    """

    def __init__(self, gauges: Callable[[], dict[str, tuple[str, float]]]) -> None:
        self.steps: dict[str, int] = {}
        self.problems: dict[str, int] = {}
        self.requests: dict[tuple[str, int], int] = {}
        self.latency, self.batches = Histogram(LATENCY_S), Histogram(BATCH)
        self.messages = self.bytes_in = self.bytes_out = 0
        self._gauges = gauges
        self._started = time.time()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def batch(self, model: str, rows: int, arrived: float) -> None:
        """A batch of steps is done; the first of them arrived at `time.perf_counter()`."""
        self.steps[model] = self.steps.get(model, 0) + rows
        self.batches.add(rows)
        self.latency.add(time.perf_counter() - arrived, rows)

    def problem(self, slug: str) -> None:
        """An answer other than success."""
        self.problems[slug] = self.problems.get(slug, 0) + 1

    def request(self, method: str, status: int) -> None:
        """An HTTP request was answered."""
        key = (method if method in METHODS else "other", status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        steps = CounterMetricFamily("memorycell_steps", "Items read", labels=["model"])
        for model, count in self.steps.items():
            steps.add_metric([model], count)
        yield steps
        problems = CounterMetricFamily("memorycell_problems", "Problems", labels=["slug"])
        for slug, count in self.problems.items():
            problems.add_metric([slug], count)
        yield problems
        requests = CounterMetricFamily(
            "memorycell_http_requests", "HTTP requests", labels=["method", "status"]
        )
        for (method, status), count in self.requests.items():
            requests.add_metric([method, str(status)], count)
        yield requests
        yield CounterMetricFamily(
            "memorycell_socket_messages", "Messages of WebSockets", value=self.messages
        )
        yield self.latency.family(
            "memorycell_step_seconds", "From the first arrival in a batch to its answers"
        )
        yield self.batches.family("memorycell_batch_items", "Items per batch")
        for name, (text, value) in self._gauges().items():
            yield GaugeMetricFamily(f"memorycell_{name}", text, value=value)
        yield GaugeMetricFamily(
            "memorycell_start_time_seconds", "When the server started", value=self._started
        )

    def text(self) -> bytes:
        """The page of /metrics."""
        return generate_latest(self._registry)
