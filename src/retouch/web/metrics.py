"""Numbers for Prometheus, in its text format."""

import threading
from collections import Counter

from retouch.web.jobs import Job

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counts requests and sums up their times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._times: Counter[float] = Counter()
        self._seconds = 0.0
        self._fills = 0
        self._jobs: Counter[tuple[str, str]] = Counter()

    def request(self, method: str, route: str, status: int) -> None:
        """Count an answered request."""
        with self._lock:
            self._requests[method, route, status] += 1

    def job(self, job: Job) -> None:
        """Count a job that is over, and the time of a fill."""
        seconds = job.seconds
        with self._lock:
            self._jobs[job.kind, job.state] += 1
            if job.state != "done" or not job.kind.startswith("fill"):
                return
            self._fills += 1
            self._seconds += seconds
            for bucket in _BUCKETS:
                if seconds <= bucket:
                    self._times[bucket] += 1

    def text(self, gauges: dict[str, tuple[str, float]]) -> str:
        """Write all numbers.

        Args:
            gauges: Value and help text by name.
        """
        lines: list[str] = []
        with self._lock:
            lines += _head("retouch_requests_total", "counter", "Answered requests.")
            for (method, route, status), count in sorted(self._requests.items()):
                labels = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"retouch_requests_total{{{labels}}} {count}")
            lines += _head("retouch_fill_seconds", "histogram", "Time of fills in the worker.")
            for bucket in _BUCKETS:
                count = self._times[bucket]
                lines.append(f'retouch_fill_seconds_bucket{{le="{bucket}"}} {count}')
            lines.append(f'retouch_fill_seconds_bucket{{le="+Inf"}} {self._fills}')
            lines.append(f"retouch_fill_seconds_sum {self._seconds:.6f}")
            lines.append(f"retouch_fill_seconds_count {self._fills}")
            lines += _head("retouch_jobs_total", "counter", "Finished jobs.")
            for (kind, state), count in sorted(self._jobs.items()):
                lines.append(f'retouch_jobs_total{{kind="{kind}",state="{state}"}} {count}')
        for name, (text, value) in gauges.items():
            lines += [*_head(name, "gauge", text), f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
