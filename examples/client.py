"""Retouch's server from Python, with plain httpx: select by clicks, fill, look, save.

retouch ui --no-browser                                # in another terminal
python examples/client.py examples/meadow.jpg out.jpg 745 270
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx


def patient(http: httpx.Client, path: str, **body: Any) -> httpx.Response:
    """Post; while the queue is full, wait as long as the server says and post again."""
    while (answer := http.post(path, **body)).status_code == 429:
        time.sleep(float(answer.headers["Retry-After"]))
    if answer.is_error:
        raise SystemExit(f"{path}: {answer.json()['detail']}")
    return answer


def finished(http: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Follow a job by its server-sent events until it is over."""
    with http.stream("GET", job["events"]) as events:
        for line in events.iter_lines():
            if line.startswith("data: "):
                job = json.loads(line.removeprefix("data: "))
                sys.stdout.write(f"{job['state']} {job['progress']:.0%}\n")
    if job["state"] != "done":
        raise SystemExit(job["error"])
    return job["value"]


def remove(http: httpx.Client, source: Path, target: Path, x: int, y: int) -> None:
    """Take away what lies at (x, y) of a picture."""
    with source.open("rb") as file:
        picture = patient(http, "/api/v1/pictures", files={"image": file}).json()["picture"]
    points = [{"x": x, "y": y, "inside": True}]  # add {"inside": False} beside the thing
    found = patient(http, "/api/v1/select", json={"picture": picture, "points": points})
    place = {"top": found.headers["X-Top"], "left": found.headers["X-Left"]}
    sys.stdout.write(f"found by {found.headers['X-Selector']}\n")
    job = patient(
        http,
        f"/api/v1/pictures/{picture}/fills",
        files={"mask": found.content},
        data={**place, "dilate": "4"},
    ).json()
    patch = finished(http, job)["patch"]
    saved = patient(http, f"/api/v1/pictures/{picture}/save", json={"patches": [patch]})
    target.write_bytes(saved.content)  # the file's own format, with its metadata
    http.delete(f"/api/v1/pictures/{picture}")


if __name__ == "__main__":
    server = "http://127.0.0.1:8480"
    with httpx.Client(base_url=server, timeout=120) as http:
        remove(http, Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
