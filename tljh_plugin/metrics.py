"""What is counted, for Prometheus: declared with its help and all values of its labels, then counted.

Comes in: declarations. Goes out: metrics of `prometheus_client` in a registry, each with a series for every
value of its labels from the start, so that an alert on something that never happened yet has a zero to look
at. A value that was not declared is counted as `other`: names of people, repositories and images can never
become labels, however somebody calls a counter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER = "other"
PREFIX = "littlest_binder_"

Values = Collection[str]
M = TypeVar("M", Counter, Gauge, Histogram)

# Seconds: of builds and starts, up to an hour, and of answers, up to Docker's time-out.
LONG_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Described:
    """A metric as the reference tells of it: `labels` with all their values."""

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Family(Generic[M]):
    """One metric and its labels; `of` is the series of these values, in the order of the declaration."""

    def __init__(self, metric: M, labels: Sequence[Values]) -> None:
        self._metric: M = metric
        self._known = tuple(frozenset(values) for values in labels)
        if labels:
            for values in product(*labels):
                metric.labels(*values)

    def of(self, *values: str) -> M:
        """Its series for these values of its labels."""
        if not self._known:
            return self._metric
        known = [value if value in every else OTHER for value, every in zip(values, self._known, strict=True)]
        series: M = self._metric.labels(*known)
        return series


class Declarations:
    """Metrics of one process, in `registry`; what is declared can be listed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._described: list[Described] = []

    def __iter__(self) -> Iterator[Described]:
        return iter(self._described)

    def counter(self, name: str, help: str, **labels: Values) -> Family[Counter]:
        """What only grows; its name ends with `_total`."""
        self._describe(name, "counter", help, labels)
        return Family(Counter(PREFIX + name, help, [*labels], registry=self.registry), [*labels.values()])

    def gauge(self, name: str, help: str, **labels: Values) -> Family[Gauge]:
        """What goes up and down."""
        self._describe(name, "gauge", help, labels)
        return Family(Gauge(PREFIX + name, help, [*labels], registry=self.registry), [*labels.values()])

    def histogram(
        self, name: str, help: str, buckets: Sequence[float] = LONG_S, **labels: Values
    ) -> Family[Histogram]:
        """How often something took how long, in seconds."""
        self._describe(name, "histogram", help, labels)
        metric = Histogram(PREFIX + name, help, [*labels], registry=self.registry, buckets=buckets)
        return Family(metric, [*labels.values()])

    def _describe(self, name: str, kind: str, help: str, labels: dict[str, Values]) -> None:
        told = tuple((label, tuple(values)) for label, values in labels.items())
        self._described.append(Described(PREFIX + name, kind, help, told))


# The verbs with which `engine` names what Docker is asked for.
DOCKER_CALLS = (
    "list", "load", "make", "measure", "name", "remove", "report", "run", "save", "show", "start", "stop",
    "take", "tell", "wait",
)  # fmt: skip
DOCKER_ERRORS = ("refused", "timed-out", "unreachable")


class DockerMetrics:
    """How Docker answers this process; give `heard` to an `Engine`."""

    def __init__(self, declared: Declarations, prefix: str = "") -> None:
        self._seconds = declared.histogram(
            f"{prefix}docker_seconds",
            "Seconds until Docker answered a short call, by the verb of what it was asked for.",
            SHORT_S,
            call=DOCKER_CALLS,
        )
        self._errors = declared.counter(
            f"{prefix}docker_errors_total",
            "Calls that Docker refused, did not answer in time, or did not hear.",
            call=DOCKER_CALLS,
            error=DOCKER_ERRORS,
        )

    def heard(self, name: str, seconds: float | None, error: str) -> None:
        """One call: what it was, how long it took (`None` for one that waits by nature), what went wrong."""
        call = name.partition(" ")[0]
        if error:
            self._errors.of(call, error).inc()
        elif seconds is not None:
            self._seconds.of(call).observe(seconds)
