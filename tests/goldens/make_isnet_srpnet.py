"""Write the goldens of ISNet and SRPNet: `python tests/goldens/make_isnet_srpnet.py`.

Run it only when the full-width fixtures agree; the tests then compare with what it wrote.
"""

import json
import runpy
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from retouch.models.isnet import ISNet, ISNetConfig, to_official

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # where the tests find what they share


def main() -> None:
    tests = runpy.run_path(str(HERE.parent / "models" / "test_isnet.py"))
    shapes = {}
    for variant in tests["VARIANTS"]:
        state = ISNet(ISNetConfig(width=4, blocks=2, variant=variant)).state_dict()
        shapes[variant] = {key: list(value.shape) for key, value in to_official(state).items()}
    outputs = {key: value.contiguous() for key, value in tests["reduced_outputs"](shapes).items()}
    save_file(outputs, HERE / "isnet.safetensors", {"shapes": json.dumps(shapes)})

    tests = runpy.run_path(str(HERE.parent / "models" / "test_srpnet.py"))
    widths = [4, 8, 16, 32, 64, 64]
    names: dict[str, list[int]] = {}
    for level, (a, b) in enumerate(zip([4, *widths], widths, strict=False), start=1):
        names |= {f"dw_conv0{level}.0.weight": [b, a, 3, 3], f"dw_conv0{level}.0.bias": [b]}
    for level, c in enumerate(widths[:4], start=1):
        for part in range(4):
            key = f"at_conv0{level}.conv0{part}.0"
            names |= {f"{key}.weight": [c // 4, c, 3, 3], f"{key}.bias": [c // 4]}
    for level, c in enumerate(widths[:5], start=1):
        above = 2 * widths[level] if level < 5 else widths[5]
        names |= {f"up_conv0{level}.0.weight": [c, above, 3, 3], f"up_conv0{level}.0.bias": [c]}
        names |= {f"torgb{level}.0.weight": [3, 2 * c, 1, 1], f"torgb{level}.0.bias": [3]}
    names |= {"decoder.0.weight": [4, 8, 3, 3], "decoder.0.bias": [4]}
    names |= {"decoder.2.weight": [3, 4, 3, 3], "decoder.2.bias": [3]}
    outputs = {key: value.contiguous() for key, value in tests["reduced_outputs"](names).items()}
    save_file(outputs, HERE / "srpnet.safetensors", {"shapes": json.dumps(names)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
