"""Label sets against the data sets' own descriptions."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retouch.segmentation.labels import LABEL_SETS, LabelSet, label_set


def test_sets_have_the_published_sizes():
    sizes = {name: len(labels) for name, labels in LABEL_SETS.items()}
    assert sizes == {"faces": 19, "outdoor": 8, "facades": 12, "street": 11}


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=lambda labels: labels.name)
def test_every_label_has_its_own_color(labels: LabelSet):
    table = labels.table()
    assert len(set(table.values())) == len(table)
    assert all(0 <= value <= 255 for color in table.values() for value in color)
    assert labels.void is None or labels.void >= len(labels)


def test_unknown_names_list_the_known():
    with pytest.raises(ValueError, match="faces, outdoor, facades, street"):
        label_set("cats")
    with pytest.raises(KeyError, match="skin"):
        label_set("faces").index("tail")
    assert label_set("faces").index("hair") == 13


def test_color_clash_is_refused():
    with pytest.raises(ValueError, match="different colors"):
        LabelSet(name="x", source="", names=("a", "b"), colors=((0, 0, 0), (0, 0, 0)))
    with pytest.raises(ValueError, match="come together"):
        LabelSet(name="x", source="", names=("a",), colors=((0, 0, 0),), void=7)


@pytest.mark.parametrize(
    ("pack", "name"), [("celebamask_mini", "faces"), ("cmp_facade", "facades")]
)
def test_colors_are_those_of_the_data(shared: Path, pack: str, name: str):
    with tarfile.open(shared / "data" / pack / "test-000.tar") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(".label.png"))
        file = archive.extractfile(member)
        assert file is not None
        palette = Image.open(io.BytesIO(file.read())).getpalette("RGB")
    colors = np.asarray(palette).reshape(-1, 3)[: len(label_set(name))]
    assert [tuple(color) for color in colors.tolist()] == list(label_set(name).colors)
