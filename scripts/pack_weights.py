"""Make a weight file for delivery: fp16, with what it was trained on and how it scored.

python scripts/pack_weights.py runs/NAME/last.safetensors weights/NAME.safetensors [--metrics JSON]

Beside it `manifest.json` lists all files of the folder: name, size, sha256, licence, data, scores.
What someone has written into an entry is kept: its `url`, and newer scores of the same file.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from retouch.weights import files, store


def main() -> None:
    """Read, round to fp16, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--metrics", type=json.loads, default=None, help="JSON for the header")
    parser.add_argument("--note", default=None, help="how it was trained, where the recipe differs")
    parser.add_argument("--segmenter", default=None, help="weights that propose its label maps")
    parser.add_argument("--reach", type=int, default=None, help="thickest hole it learned [px]")
    given = parser.parse_args()
    header, state = files.read(given.source)
    half = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    source = dict(header.source or {})
    if given.note:
        source["note"] = given.note
    config = dict(header.config) | ({"segmenter": given.segmenter} if given.segmenter else {})
    header = dataclasses.replace(
        header,
        name=given.target.stem,
        config=config,
        metrics=given.metrics,
        source=source,
        reach=given.reach,
    )
    files.save(given.target, header, half)
    files.load(given.target)
    print(f"{given.target}: {given.target.stat().st_size / 1e6:.1f} MB")
    write_manifest(given.target.parent)


def write_manifest(folder: Path) -> None:
    """List all weight files of a folder in its `manifest.json`."""
    target = folder / "manifest.json"
    old = json.loads(target.read_text("utf-8"))["weights"] if target.is_file() else []
    known = {entry["file"]: entry for entry in old}
    files_here = sorted(folder.glob("*.safetensors"))
    listed = [_entry(path, known.get(path.name, {})) for path in files_here]
    text = json.dumps({"weights": listed}, indent=1, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")


def _entry(path: Path, old: Mapping[str, Any]) -> dict[str, Any]:
    header, sha256 = files.read_header(path), store.sha256(path)
    return {
        "name": path.stem,
        "file": path.name,
        "network": header.network,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "licence": header.license,
        "data": list(header.data),
        "source": header.source,
        "metrics": old["metrics"] if old.get("sha256") == sha256 else header.metrics,
        "url": old.get("url"),
    }


if __name__ == "__main__":
    main()
