"""What Schemathesis makes of the OpenAPI document breaks nothing."""

import importlib.util
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

API = "/api/v1"


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def things(client: Any) -> dict[str, str]:
    """Open a picture, fill it and begin a session, so that keys lead somewhere."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    key = client.post("/pictures", files={"image": png(noise)}).json()["picture"]
    made = client.post(f"/pictures/{key}/fills", files={"mask": png(mask)}).json()
    data = {"picture": key, "network": "semantic-tiny"}
    begun = client.post("/sessions", files={"mask": png(mask)}, data=data).json()
    for _ in range(300):
        found = [client.get(f"/jobs/{job['job']}").json() for job in (made, begun)]
        if all(job["state"] == "done" for job in found):
            break
        time.sleep(0.1)
    patch, session = (job["value"] for job in found)
    return {
        "picture": key,
        "patch": patch["patch"],
        "session": session["session"],
        "job": made["job"],
    }


def settings(keys: dict[str, str]) -> str:
    """Say in Schemathesis' own form which key goes with which route."""
    routes = {
        "pictures/{key}/view": {"key": keys["picture"]},
        "pictures/{key}/save": {"key": keys["picture"]},
        "pictures/{key}/fills": {"key": keys["picture"]},
        "pictures/{key}/patches": {"key": keys["picture"]},
        "pictures/{key}/patches/{patch}": {"key": keys["picture"], "patch": keys["patch"]},
        "sessions/{key}/labels": {"key": keys["session"]},
        "sessions/{key}/render": {"key": keys["session"]},
        "jobs/{key}": {"key": keys["job"]},
        "jobs/{key}/events": {"key": keys["job"]},
        "jobs/{key}/result": {"key": keys["job"]},
    }
    blocks = []
    for route, parameters in routes.items():
        inner = ", ".join(f'"path.{name}" = "{value}"' for name, value in parameters.items())
        blocks.append(
            f'[[operations]]\ninclude-path = "{API}/{route}"\nparameters = {{ {inner} }}\n'
        )
    return "\n".join(blocks)


@pytest.mark.slow
@pytest.mark.parametrize("with_keys", [False, True])
def test_no_request_breaks_the_server(launch: Callable[..., Any], tmp_path: Path, with_keys: bool):
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    server = launch()
    server.wait()
    command = [str(Path(sys.executable).with_name("schemathesis"))]
    more = ["--phases", "coverage,fuzzing,stateful"]
    if with_keys:
        with server.client() as client:
            keys = things(client)
        config = tmp_path / "schemathesis.toml"
        config.write_text(settings(keys))
        command += ["--config-file", str(config)]
        more = ["--phases", "coverage,fuzzing", "--exclude-method", "DELETE"]
    document = f"http://127.0.0.1:{server.port}{API}/openapi.json"
    command += ["run", document, "--checks", "not_a_server_error", "--max-examples", "20", *more]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, "--seed", "1"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
    with server.client() as client:
        assert client.get("/health").json()["status"] == "ready"
        numbers = client.get("/metrics").text
    reached = 'method="GET",route="/pictures/*/view",status="200"' in numbers
    assert reached == with_keys
