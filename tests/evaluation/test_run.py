"""Whole evaluations on small pictures: rows, resuming, reports, the command."""

import csv
import itertools
import json
import pickle
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streams import blocks, stream

from retouch import models
from retouch.cli.evaluate import evaluate
from retouch.evaluation import distributions, methods, page, pairs, plots, report, run, sets, tables
from retouch.evaluation.metrics import Column
from retouch.evaluation.pairs import EvaluationError
from retouch.evaluation.protocols import PROTOCOLS
from retouch.weights import files
from retouch.weights.store import MissingWeightsError

PROTOCOL = PROTOCOLS["retouch"]
COLUMNS = tuple(Column.parse(text) for text in ("psnr_rgb", "l1_percent.hole"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six pictures, four masks of different shares, and results of another tool."""
    for name in ("pictures", "masks", "other"):
        (tmp_path / name).mkdir()
    for number in range(6):
        picture = blocks(number, 48, 48)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"p{number}.png")
        noise = np.floor(stream(50 + number, 48, 48, 3) * 9).astype(np.uint8)
        Image.fromarray(picture // 2 + 60 + noise).save(tmp_path / "other" / f"p{number}.png")
    for number, side in enumerate((8, 16, 24, 44)):
        mask = np.zeros((48, 48), dtype=np.uint8)
        mask[2 : 2 + side, 2 : 2 + side] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"m{number}.png")
    return tmp_path


def job_of(data: Path, *names: str, output: str = "out", **changes) -> run.Job:
    found = pairs.make([data / "pictures"], [data / "masks"], PROTOCOL.preparation)
    rows = [methods.baseline(name) for name in names]
    rows.append(methods.folder("other", data / "other", found.manifest))
    job = run.Job(
        pairs=found,
        methods=tuple(rows),
        columns=COLUMNS,
        protocol=PROTOCOL,
        output=data / output,
        device="cpu",
    )
    return replace(job, **changes)


def results_of(job: run.Job, **options) -> tables.Results:
    rows = run.evaluate_rows(job, **options)
    return tables.summarise(
        job.protocol, job.columns, job.methods, rows, pairs_sha256=job.pairs.manifest.sha256
    )


def test_rows_hold_every_picture_and_its_score(data: Path):
    told: list[tuple[int, int, str]] = []
    job = job_of(data, "nearest", "mean")
    rows = run.evaluate_rows(job, progress=lambda *facts: told.append(facts))
    assert list(rows) == ["nearest", "mean", "other"]
    assert told[-1][:2] == (18, 18)
    first = rows["other"][1]
    assert (first.picture, first.mask, first.bin) == ("p1", "m1", "10-20 %")
    truth, mask = job.pairs.open(1)
    made = np.asarray(Image.open(data / "other" / "p1.png"))
    gap = np.abs(made[mask].astype(float) - truth[mask]).mean() / 2.55
    assert first.scores["l1_percent.hole"] == pytest.approx(gap)
    kept = sets.read_png(run.picture_path(job.output, "other", 1, "p1"))
    np.testing.assert_array_equal(kept, np.where(mask[..., None], made, truth))


def test_a_stopped_evaluation_goes_on_where_it_was(data: Path):
    class StopError(Exception):
        pass

    def stop(done: int, *_: object) -> None:
        if done == 7:
            raise StopError

    job = job_of(data, "nearest")
    with pytest.raises(StopError):
        run.evaluate_rows(job, progress=stop)
    path = job.output / "rows" / "other.csv"
    with path.open("a") as file:
        file.write("5,p5,m1,0.1")  # the line that a kill cut off
    done: list[int] = []
    rows = run.evaluate_rows(job, progress=lambda count, *_: done.append(count))
    assert done == [8, 9, 10, 11, 12]
    fresh = run.evaluate_rows(job_of(data, "nearest", output="fresh"))
    for name in fresh:
        assert [row.scores for row in rows[name]] == [row.scores for row in fresh[name]]
    assert run.evaluate_rows(job) == rows


def test_methods_can_be_added_but_nothing_else_changed(data: Path):
    run.evaluate_rows(job_of(data, "nearest"))
    both = run.evaluate_rows(job_of(data, "nearest", "mean"))
    assert len(both["mean"]) == 6
    with pytest.raises(EvaluationError, match="other columns"):
        run.evaluate_rows(job_of(data, "nearest", columns=COLUMNS[:1]))
    with pytest.raises(EvaluationError, match="other protocol"):
        run.evaluate_rows(job_of(data, "nearest", protocol=PROTOCOLS["isnet"]))
    Image.fromarray(blocks(9, 48, 48)).save(data / "pictures" / "p0.png")
    with pytest.raises(EvaluationError, match="other pairs sha256"):
        run.evaluate_rows(job_of(data, "nearest"))


def test_another_version_of_a_method_is_refused(data: Path):
    job = job_of(data, "nearest")
    run.evaluate_rows(job)
    newer = replace(job.methods[0], identity="scipy 99")
    with pytest.raises(EvaluationError, match="another nearest"):
        run.evaluate_rows(replace(job, methods=(newer, *job.methods[1:])))


def test_pictures_of_another_tool_that_changed_are_noticed(data: Path):
    run.evaluate_rows(job_of(data))
    Image.fromarray(blocks(7, 48, 48)).save(data / "other" / "p2.png")
    with pytest.raises(EvaluationError, match="holds scores of another other"):
        run.evaluate_rows(job_of(data))


def test_a_picture_that_was_removed_is_made_again(data: Path):
    job = job_of(data, "nearest")
    run.evaluate_rows(job)
    path = run.picture_path(job.output, "nearest", 2, "p2")
    path.unlink()
    rows = run.evaluate_rows(job)
    assert path.is_file()
    assert [row.number for row in rows["nearest"]] == list(range(6))


@pytest.mark.slow
def test_two_processes_give_the_same_rows(data: Path):
    one = run.evaluate_rows(job_of(data, "nearest", output="one"))
    two = run.evaluate_rows(job_of(data, "nearest", output="two", threads=1), processes=2)
    for name in one:
        assert [row.scores for row in one[name]] == [row.scores for row in two[name]]


def test_summaries_are_means_of_the_rows(data: Path):
    results = results_of(job_of(data, "nearest"))
    assert results.bins == ("all", "1-10 %", "10-20 %", "20-30 %", "other")
    values = [row.scores["psnr_rgb"] for row in results.rows["other"]]
    cell = results.cells["other", "all", "psnr_rgb"]
    assert cell.estimate.value == pytest.approx(np.mean(values))
    assert cell.n == 6
    comparison = results.comparisons["nearest", "other", "psnr_rgb"]
    ours = [row.scores["psnr_rgb"] for row in results.rows["nearest"]]
    assert comparison.difference.value == pytest.approx(np.mean(ours) - np.mean(values))


def test_reports_say_what_was_measured(data: Path):
    job = job_of(data, "nearest", "mean")
    results = results_of(job)
    report.write(results, job.output)
    text = (job.output / "report.md").read_text()
    for column in COLUMNS:
        assert f"**{column}**: {column.definition}" in text
    assert "floor(255 x + 0.5)" in text
    assert job.pairs.manifest.sha256[:16] in text
    whole = json.loads((job.output / "report.json").read_text())
    assert whole["scores"]["mean"]["all"]["psnr_rgb"]["n"] == 6
    assert whole["comparisons"][0]["p"] <= 1
    lines = list(csv.DictReader((job.output / "scores.csv").read_text().splitlines()))
    assert len(lines) == 18
    row = results.rows["mean"][0]
    found = next(line for line in lines if line["method"] == "mean")
    assert float(found["psnr_rgb"]) == row.scores["psnr_rgb"]


def test_the_page_needs_nothing_from_outside(data: Path):
    job = job_of(data, "nearest")
    results = results_of(job)
    html = page.write_page(results, job.pairs, job.output, each=2).read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", html)
    assert "http" not in html.replace("http://www.w3.org", "")
    assert html.count("<svg") == len(COLUMNS)
    assert html.count('class="card"') == 6
    held = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(held[0]).keys() == {"truth", "input", "nearest", "other"}
    for column in COLUMNS:
        assert column.definition in html


def test_names_in_the_page_are_escaped(data: Path):
    job = job_of(data)
    evil = replace(job.methods[0], name="a<b>", what="<script>alert(1)</script>")
    job = replace(job, methods=(evil,))
    html = page.write_page(results_of(job), job.pairs, job.output).read_text()
    assert "<script>alert" not in html
    assert "a<b>" not in re.sub(r'<script type="application/json">.*?</script>', "", html)


def test_folders_must_hold_every_picture_of_the_right_size(data: Path):
    (data / "other" / "p3.png").unlink()
    with pytest.raises(EvaluationError, match=r"lacks 1 of 6 pictures, the first is p3\.png"):
        job_of(data)
    Image.fromarray(blocks(1, 20, 20)).save(data / "other" / "p3.png")
    with pytest.raises(EvaluationError, match="20x20 px, the truth 48x48"):
        run.evaluate_rows(job_of(data))


def test_set_scores_refuse_small_sets_before_any_work(data: Path, monkeypatch):
    for metric in ("u_ids", "p_ids"):
        columns = (*COLUMNS, Column.parse(metric))
        with pytest.raises(EvaluationError, match="at least 5000 pictures, got 6"):
            sets.check(job_of(data, columns=columns))
    monkeypatch.setenv("RETOUCH_WEIGHTS", str(data / "nothing"))
    job = job_of(data, columns=(*COLUMNS, Column.parse("fid")))
    sets.check(job)
    run.evaluate_rows(job)
    with pytest.raises(MissingWeightsError, match="retouch weights add"):
        sets.score_sets(job)


def test_set_scores_come_from_the_composites(data: Path, monkeypatch: pytest.MonkeyPatch):
    class Means(torch.nn.Module):
        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return picture.mean(dim=(2, 3))

    monkeypatch.setattr(sets.Inception, "from_store", Means)
    columns = tuple(Column.parse(text) for text in ("psnr_rgb", "fid", "kid", "kid_paired"))
    job = job_of(data, "nearest", columns=columns)
    rows = run.evaluate_rows(job)
    scores = sets.score_sets(job)
    truth = np.stack([job.pairs.open(n)[0].mean(axis=(0, 1)) for n in range(6)]) / 255
    kept = [sets.read_png(run.picture_path(job.output, "other", n, f"p{n}")) for n in range(6)]
    made = np.stack([picture.mean(axis=(0, 1)) for picture in kept]) / 255
    expected = distributions.fid(truth, made)
    assert scores["other"]["fid"].value == pytest.approx(expected, rel=1e-3)
    assert scores["other"]["fid"].n == 6
    assert scores["other"]["kid"].low is not None
    assert sets.score_sets(job) == scores  # from the kept features
    results = tables.summarise(PROTOCOL, columns, job.methods, rows, sets=scores)
    assert "(n=6)" in report.to_markdown(results)
    assert "fid" in page.write_page(results, job.pairs, job.output).read_text()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weight file of a tiny network."""
    torch.manual_seed(0)
    facts = models.card("dilated")
    config = dict(facts.small)
    path = tmp_path / "tiny.safetensors"
    network = facts.model(facts.config(**config))
    files.save(path, files.Header(network="dilated", config=config), network.state_dict())
    return path


def test_a_bare_prediction_is_the_network_s_everywhere(weights: Path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[:8, :8] = True
    bare = methods.loaded(methods.network(weights), device="cpu", prediction="network")
    fill = methods.loaded(methods.network(weights), device="cpu")
    assert np.abs(bare(image, mask, "")[40:] - image[40:] / 255).mean() > 0.01
    assert np.array_equal(np.asarray(fill(image, mask, ""))[40:], image[40:])


@pytest.mark.parametrize("protocol", ["retouch", "isnet"])
def test_the_command_measures_networks_beside_others(
    data: Path, weights: Path, protocol, capsys: pytest.CaptureFixture[str]
):
    column = {"retouch": "psnr_rgb", "isnet": "psnr_rgb.raw.truncated"}[protocol]
    options = {
        "pictures": (data / "pictures",),
        "masks": (str(data / "masks"),),
        "weights": (weights,),
        "baselines": ("telea",),
        "folder": () if protocol == "isnet" else (f"other={data / 'other'}",),
        "metrics": (column,),
        "limit": 2,
        "output": data / "out",
        "protocol": protocol,
        "device": "cpu",
        "cache": data / "cache",
    }
    evaluate(**options)
    shown = capsys.readouterr().out
    assert "tiny" in shown
    assert "floor(255 x + 0.5)" in shown
    for name in ("report.md", "report.json", "scores.csv", "report.html", "pairs.json"):
        assert (data / "out" / name).is_file()
    assert list((data / "cache").glob("telea@*/*.png"))
    before = (data / "out" / "report.json").read_text()
    evaluate(**options)
    assert (data / "out" / "report.json").read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing to measure"),
        ({"baselines": ("photoshop",)}, "no baseline 'photoshop'; there are telea"),
        ({"folder": ("x",)}, "must be NAME=DIR"),
        ({"baselines": ("telea", "telea")}, "two methods are called telea"),
        ({"baselines": ("telea",), "metrics": ("psnr",)}, "no metric 'psnr'"),
        ({"masks": ()}, "needs --masks"),
    ],
)
def test_wrong_arguments_give_one_line(data: Path, changes: dict, message: str):
    options = {"pictures": (data / "pictures",), "masks": (str(data / "masks"),)} | changes
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(output=data / "out", **options)
    assert type(caught.value).__module__.startswith("retouch.")
    assert "\n" not in str(caught.value)


def test_plots_have_round_lines(data: Path):
    drawn = plots.plot(results_of(job_of(data, "nearest", "mean")), COLUMNS[0])
    ticks = [float(text) for text in re.findall(r'text-anchor="end">([-\d.]+)</text>', drawn)]
    steps = {round(b - a, 6) for a, b in itertools.pairwise(ticks)}
    assert 2 <= len(ticks) <= 7
    assert len(steps) == 1
    assert f"{steps.pop():e}"[0] in "125"


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(data: Path):
    path = data / "go.py"
    path.write_text(
        "import sys\n"
        "from retouch.evaluation import run, pairs, methods\n"
        "from retouch.evaluation.protocols import PROTOCOLS\n"
        "if __name__ == '__main__':\n"
        "    import pickle, multiprocessing, os, signal\n"
        "    job = pickle.load(open(sys.argv[1], 'rb'))\n"
        "    def told(*_):\n"
        "        print(*(c.pid for c in multiprocessing.active_children()), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    run.evaluate_rows(job, processes=2, progress=told)\n"
    )
    (data / "job").write_bytes(pickle.dumps(job_of(data, "nearest", threads=1)))
    command = [sys.executable, str(path), str(data / "job")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    workers = [int(text) for text in done.stdout.split()]
    assert len(workers) == 2, done.stderr
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            return
        time.sleep(0.1)
    pytest.fail(f"workers {workers} live on")
