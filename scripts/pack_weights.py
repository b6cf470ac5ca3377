"""Make a weight file for delivery: fp16, with what it was trained on and how it scored.

python scripts/pack_weights.py runs/NAME/last.safetensors OUT.safetensors [--metrics JSON]
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from retouch.weights import files


def main() -> None:
    """Read, round to fp16, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--metrics", type=json.loads, default=None, help="JSON for the header")
    parser.add_argument("--note", default=None, help="how it was trained, where the recipe differs")
    given = parser.parse_args()
    header, state = files.read(given.source)
    half = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    source = dict(header.source or {})
    if given.note:
        source["note"] = given.note
    header = dataclasses.replace(header, metrics=given.metrics, source=source)
    files.save(given.target, header, half)
    files.load(given.target)
    print(f"{given.target}: {given.target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
