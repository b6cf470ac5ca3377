"""The server as a program sees it."""

import base64
import io
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from retouch import models, pictures, segmentation
from retouch.pipeline.holes import Box
from retouch.pipeline.selecting import Scene, View
from retouch.web import engine, selecting
from retouch.web.settings import Settings
from retouch.weights import files as weight_files
from retouch.weights import store as weight_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def client(tiny: Path, serve: Any) -> Iterator[httpx.Client]:
    with serve(Settings(network=tiny)) as client:
        yield client


def save_small(network: str, path: Path, **changed: Any) -> Path:
    """Write random weights of a reduced network, of either kind."""
    facts: Any = (models if network in models.names() else segmentation).card(network)
    config = {**facts.small, **changed}
    state = facts.model(facts.config(**config)).state_dict()
    weight_files.save(path, weight_files.Header(network=network, config=config), state)
    return path


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def picture(seed: int = 0, size: tuple[int, int] = (70, 90)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def hole(size: tuple[int, int] = (70, 90)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[20:40, 30:60] = True
    return mask


def opened(body: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(body)))


def finished(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """Wait by the job's events."""
    with client.stream("GET", job["events"].removeprefix("/api/v1")) as events:
        lines = [line for line in events.iter_lines() if line.startswith("data: ")]
    return json.loads(lines[-1].removeprefix("data: "))


def open_picture(client: httpx.Client, array: np.ndarray) -> str:
    answer = client.post("/pictures", files={"image": ("a.png", png(array))})
    assert answer.status_code == 201, answer.text
    return answer.json()["picture"]


def fill_part(client: httpx.Client, key: str, patches: list[str] = []) -> dict[str, Any]:  # noqa: B006
    files = {"mask": png(hole()[20:40, 30:60])}
    data = {"top": 20, "left": 30, "patches": json.dumps(patches)}
    answer = client.post(f"/pictures/{key}/fills", files=files, data=data)
    assert answer.status_code == 202, answer.text
    done = finished(client, answer.json())
    assert done["state"] == "done", done
    return done["value"]


def test_fill_answers_with_the_picture(client: httpx.Client):
    before = picture()
    answer = client.post("/fill", files={"image": png(before), "mask": png(hole())})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    after = opened(answer.content)
    assert np.array_equal(after[~hole()], before[~hole()])
    assert (after[hole()] != before[hole()]).any()


def test_fill_speaks_json(client: httpx.Client):
    before = picture()
    body = {
        "image": base64.b64encode(png(before)).decode(),
        "mask": base64.b64encode(png(hole())).decode(),
    }
    answer = client.post("/fill", json=body, headers={"Accept": "application/json"})
    assert answer.status_code == 202
    done = finished(client, answer.json())
    assert done["state"] == "done"
    result = client.get(done["result"].removeprefix("/api/v1"))
    plain = client.post("/fill", json=body)
    assert result.content == plain.content
    assert np.array_equal(opened(result.content)[~hole()], before[~hole()])


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"mask": b"no picture"}, 422, "the mask"),
        ({"image": b"GIF89a...."}, 422, "this is a GIF"),
        ({"image": b""}, 422, "missing"),
        ({"network": "../../etc/passwd"}, 422, "no weights named"),
        ({"dilate": "-1"}, 422, "dilate"),
        ({"feather": "5"}, 422, "feather"),
        ({"nonsense": "5"}, 422, "nonsense"),
        ({"labels": png(hole())}, 422, "takes no label map"),
        ({"mask": png(np.zeros((3, 3), bool))}, 422, "3x3"),
    ],
)
def test_mistakes_are_told(client: httpx.Client, change: dict[str, Any], status: int, text: str):
    files: dict[str, Any] = {"image": png(picture()), "mask": png(hole())}
    data = {}
    for key, value in change.items():
        (files if isinstance(value, bytes) else data)[key] = value
    answer = client.post("/fill", files=files, data=data)
    assert answer.status_code == status, answer.text
    assert text in answer.text
    assert "/tmp" not in answer.text


def test_an_open_picture_is_filled_step_by_step(client: httpx.Client):
    before = picture()
    key = open_picture(client, before)
    first = fill_part(client, key)
    assert (first["top"], first["left"], first["width"], first["height"]) == (20, 30, 30, 20)
    patch = opened(client.get(first["url"].removeprefix("/api/v1")).content)
    assert patch.shape == (20, 30, 4)
    second = fill_part(client, key, [first["patch"]])
    for state, shown in (([], None), ([first["patch"]], patch), ([second["patch"]], None)):
        saved = opened(client.post(f"/pictures/{key}/save", json={"patches": state}).content)
        assert np.array_equal(saved[~hole()], before[~hole()])
        if shown is not None:
            assert np.array_equal(saved[20:40, 30:60], shown[..., :3])
        if not state:
            assert np.array_equal(saved, before)


@pytest.mark.parametrize(
    ("kind", "shape"), [("uint16", (70, 90)), ("uint8", (70, 90)), ("uint8", (70, 90, 3))]
)
def test_a_fill_comes_back_to_a_new_server_bit_for_bit(
    client: httpx.Client, kind: str, shape: tuple[int, ...]
):
    deep = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape).astype(kind)
    key = open_picture(client, deep)
    patch = fill_part(client, key)
    blob = client.get(patch["url"].removeprefix("/api/v1")).content
    one = client.post(f"/pictures/{key}/save", json={"patches": [patch["patch"]]}).content
    other = open_picture(client, deep)
    data = {"top": patch["top"], "left": patch["left"]}
    brought = client.post(f"/pictures/{other}/patches", files={"fill": blob}, data=data)
    assert brought.status_code == 201, brought.text
    state = {"patches": [brought.json()["patch"]]}
    two = client.post(f"/pictures/{other}/save", json=state).content
    assert opened(one).dtype == deep.dtype
    assert np.array_equal(opened(one), opened(two))


def test_what_is_not_there_is_404(client: httpx.Client):
    key = open_picture(client, picture())
    nobody = "x" * 22
    assert client.get(f"/pictures/{nobody}/view").status_code == 404
    assert client.post(f"/pictures/{key}/save", json={"patches": [nobody]}).status_code == 404
    assert client.get(f"/jobs/{nobody}").status_code == 404
    assert client.post(f"/sessions/{nobody}/render", files={"labels": b"x"}).status_code == 404
    assert client.delete(f"/pictures/{key}").status_code == 204
    assert client.get(f"/pictures/{key}/view").status_code == 404


def test_a_session_is_rendered_by_the_decoder_alone(client: httpx.Client):
    before = picture()
    key = open_picture(client, before)
    files = {"mask": png(hole())}
    data = {"picture": key, "network": "semantic-tiny"}
    answer = client.post("/sessions", files=files, data=data)
    assert answer.status_code == 202, answer.text
    begun = finished(client, answer.json())
    assert begun["state"] == "done", begun
    session = begun["value"]
    assert session["label_set"]["names"][1] == "skin"
    labels = Image.open(io.BytesIO(client.get(session["labels"].removeprefix("/api/v1")).content))
    assert labels.size == (session["width"], session["height"])
    fills = []
    for value in (1, 13, 1):
        painted = Image.new("P", labels.size, value)
        painted.putpalette(labels.getpalette() or [])
        stream = io.BytesIO()
        painted.save(stream, "PNG")
        path = f"/sessions/{session['session']}/render"
        job = client.post(path, files={"labels": stream.getvalue()})
        assert job.status_code == 202, job.text
        patch = finished(client, job.json())["value"]
        fills.append(opened(client.get(patch["url"].removeprefix("/api/v1")).content))
    assert np.array_equal(fills[0], fills[2])
    assert not np.array_equal(fills[0], fills[1])


@pytest.mark.parametrize(
    ("labels", "advice"),
    [
        ("faces", "retouch weights add 79999_iter.pth"),
        ("outdoor", "retouch weights import segmentation_OST_bic.pth --name outdoor-scenes"),
        ("facades", "retouch train recipes/bisenet-cmp-facade-small.toml"),
        ("street", "retouch train recipes/bisenet-camvid-small.toml"),
    ],
)
def test_an_absent_segmenter_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, labels: str, advice: str
):
    monkeypatch.setattr(weight_store, "own", dict)  # a checkout has one for faces
    answer = client.post("/segment", files={"image": png(picture())}, data={"labels": labels})
    assert answer.status_code == 422
    assert advice in answer.json()["detail"]
    recipe = re.search(r"recipes/\S+\.toml", advice)
    assert recipe is None or (ROOT / recipe[0]).is_file()


def test_a_segmenter_is_found_when_it_appears(client: httpx.Client, store: Path):
    save_small("semantic", store / "semantic-bare.safetensors", segmenter="", labels="outdoor")
    key = open_picture(client, picture())

    def begin() -> dict[str, Any]:
        files, data = {"mask": png(hole())}, {"picture": key, "network": "semantic-bare"}
        return finished(client, client.post("/sessions", files=files, data=data).json())["value"]

    before = begin()
    assert not before["proposed"]
    assert "outdoor-scenes" in before["advice"]
    path = save_small("bisenet", store / "outdoor-scenes.safetensors", labels="outdoor")
    after = begin()
    assert after["proposed"]
    assert after["advice"] is None
    assert "water" in after["label_set"]["names"]
    answer = client.post("/segment", files={"image": png(picture())}, data={"labels": "outdoor"})
    assert answer.status_code == 200
    path.unlink()


def test_a_network_without_labels_says_so(client: httpx.Client):
    key = open_picture(client, picture())
    answer = client.post("/sessions", files={"mask": png(hole())}, data={"picture": key})
    done = finished(client, answer.json())
    assert done["state"] == "failed"
    assert "no labels to edit" in done["error"]


def test_select_finds_what_was_clicked_on(client: httpx.Client):
    scene = np.full((80, 100, 3), (40, 120, 60), np.uint8)
    scene[20:50, 30:70] = (200, 60, 40)
    key = open_picture(client, scene)
    body = {"picture": key, "points": [{"x": 45, "y": 30}, {"x": 5, "y": 5, "inside": False}]}
    answer = client.post("/select", json=body)
    assert answer.status_code == 200, answer.text
    left, top = int(answer.headers["X-Left"]), int(answer.headers["X-Top"])
    found = np.zeros((80, 100), bool)
    part = opened(answer.content)
    found[top : top + part.shape[0], left : left + part.shape[1]] = part
    wanted = np.zeros((80, 100), bool)
    wanted[20:50, 30:70] = True
    assert (found & wanted).sum() / (found | wanted).sum() > 0.95


def test_select_asks_mobilesam_and_encodes_each_state_once(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    encoded: list[pictures.Picture] = []

    class Stub:
        """Finds an 8x8 square at the last click."""

        @classmethod
        def load(cls, device: str) -> "Stub":
            return cls()

        def scene(self, picture: pictures.Picture) -> Scene:
            encoded.append(picture)
            whole = Box(0, 0, picture.height, picture.width)
            return Scene(picture.size, [View(box=whole, scale=1.0, embedding=torch.zeros(1000))])

        def select(self, scene: Scene, picture: pictures.Picture, clicks: Any) -> np.ndarray:
            found = np.zeros(scene.size, bool)
            found[clicks[-1].y : clicks[-1].y + 8, clicks[-1].x : clicks[-1].x + 8] = True
            return found

    monkeypatch.setattr(engine, "Selector", Stub)
    monkeypatch.setattr(selecting, "has_network", lambda: True)
    key = open_picture(client, picture())

    def kept() -> float:
        text = client.get("/metrics").text
        return float(re.findall(r"^retouch_kept_bytes (\S+)", text, re.M)[0])

    before = kept()
    for x in (5, 40):
        body = {"picture": key, "points": [{"x": x, "y": 9}]}
        answer = client.post("/select", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["X-Selector"] == "mobile-sam"
        assert (answer.headers["X-Left"], answer.headers["X-Top"]) == (str(x), "9")
        assert opened(answer.content).shape == (8, 8)
    assert len(encoded) == 1
    assert kept() - before == 4000
    patch = fill_part(client, key)["patch"]
    body = {"picture": key, "points": [{"x": 3, "y": 3}], "patches": [patch]}
    assert client.post("/select", json=body).status_code == 200
    assert len(encoded) == 2
    assert (encoded[0].pixels != encoded[1].pixels).any()
    wrong = {"picture": key, "points": [{"x": 3, "y": 3, "inside": False}]}
    answer = client.post("/select", json=wrong)
    assert answer.status_code == 422
    assert "click on the thing first" in answer.text


def test_select_takes_any_picture(client: httpx.Client):
    for size in ((80, 100), (3, 200), (1, 1)):
        key = open_picture(client, np.full((*size, 3), 90, np.uint8))
        answer = client.post("/select", json={"picture": key, "points": [{"x": 0, "y": 0}]})
        assert answer.status_code == 200, answer.text
    outside = {"picture": key, "points": [{"x": 5, "y": 0}]}
    assert client.post("/select", json=outside).status_code == 422


def test_nothing_that_is_sent_breaks_the_server(client: httpx.Client):
    headers = {"Content-Type": "application/json"}
    key = open_picture(client, picture())
    for body in (
        b'{"\\ud800": 1}',
        b'{"image": "\\ud800"}',
        b"[[[[",
        b"\xff\xfe",
        b"null",
        b"1e999",
    ):
        for path in ("fill", "select", f"pictures/{key}/save", "sessions", "pictures"):
            answer = client.post(f"/{path}", content=body, headers=headers)
            assert 400 <= answer.status_code < 500, (path, body, answer.text)
    answer = client.post("/segment", files={"image": png(picture())}, data={"labels": "cats"})
    assert answer.status_code == 422
    assert "faces" in answer.text
    answer = client.post("/pictures/x/patches", files={"fill": png(picture())})
    assert answer.status_code == 404
    files = {"fill": png(picture())}
    answer = client.post(f"/pictures/{key}/patches", files=files, data={"top": 10**30, "left": 0})
    assert answer.status_code == 422


def test_models_health_and_metrics(client: httpx.Client):
    names = [model["name"] for model in client.get("/models").json()]
    assert names[0] == "tiny"
    assert "semantic-tiny" in names
    assert client.get("/health").json()["status"] == "ready"
    text = client.get("/metrics").text
    assert 'retouch_requests_total{method="GET",route="/health",status="200"}' in text
    assert "retouch_fill_seconds_count" in text


def test_the_document_names_every_route(client: httpx.Client):
    paths = client.get("/openapi.json").json()["paths"]
    names = ("fill", "segment", "sessions", "sessions/{key}/render", "select", "models", "health")
    assert {f"/api/v1/{name}" for name in names} <= set(paths)
    fill = paths["/api/v1/fill"]["post"]["requestBody"]["content"]
    assert set(fill) == {"multipart/form-data", "application/json"}
    assert "image" in fill["multipart/form-data"]["schema"]["properties"]


def test_many_clients_get_their_own_picture_or_429(client: httpx.Client):
    def ask(seed: int) -> tuple[int, int]:
        answer = client.post("/fill", files={"image": png(picture(seed)), "mask": png(hole())})
        if answer.status_code != 200:
            assert int(answer.headers["Retry-After"]) >= 1
            return seed, answer.status_code
        after = opened(answer.content)
        assert np.array_equal(after[~hole()], picture(seed)[~hole()])
        return seed, 200

    with ThreadPoolExecutor(24) as pool:
        statuses = [status for _, status in pool.map(ask, range(48))]
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 16


def test_a_waiting_job_can_be_cancelled(client: httpx.Client):
    body = {
        "image": base64.b64encode(png(picture(0, (900, 900)))).decode(),
        "mask": base64.b64encode(png(hole((900, 900)))).decode(),
    }
    headers = {"Accept": "application/json"}
    jobs = [client.post("/fill", json=body, headers=headers).json() for _ in range(4)]
    last = jobs[-1]
    client.delete(f"/jobs/{last['job']}")
    states = [finished(client, job)["state"] for job in jobs]
    assert states == ["done", "done", "done", "cancelled"]
    gone = client.get(f"/jobs/{last['job']}/result")
    assert gone.status_code == 503


def test_offered_pictures_are_served_by_number_and_saved_beside(
    tiny: Path, serve: Any, tmp_path: Path
):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture()).save(tmp_path / "in" / "a.png")
    settings = Settings(
        network=tiny, offered=(tmp_path / "in" / "a.png",), output=tmp_path / "in_filled"
    )
    with serve(settings) as client:
        offered = client.get("/offered").json()
        assert offered["pictures"] == [{"index": 0, "name": "a.png", "saved": False}]
        assert str(tmp_path) not in json.dumps(offered)
        assert opened(client.get("/offered/0").content).shape == (70, 90, 3)
        assert client.get("/offered/1").status_code == 404
        key = open_picture(client, picture())
        patch = fill_part(client, key)["patch"]
        saved = client.post(f"/offered/0/save/{key}", json={"patches": [patch]})
        assert saved.status_code == 200, saved.text
    after = np.asarray(Image.open(tmp_path / "in_filled" / "a.png"))
    assert np.array_equal(after[~hole()], picture()[~hole()])


def test_nothing_at_hand_is_said_plainly(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(tmp_path))
    settings = Settings(network="lama-places")
    with serve(settings) as client:
        for _ in range(100):
            if client.get("/health").json()["status"] != "loading":
                break
            time.sleep(0.05)
        answer = client.post("/fill", files={"image": png(picture()), "mask": png(hole())})
        assert answer.status_code == 422
        assert "no weights named" in answer.json()["detail"]
