"""`retouch export`: the pipeline for one crop as an ONNX or torch.export file."""

from pathlib import Path


def export(
    network: str,
    *,
    onnx: Path | None = None,
    torch: Path | None = None,
    size: tuple[int, int] | None = None,
    labels: bool = False,
) -> None:
    """Write the whole pipeline for one crop: uint8 picture and mask in, uint8 picture out.

    The file is compared with torch on several inputs before it gets its name: it may differ by
    1/255 in the hole and not at all outside. Batch is free; so are height and width, unless the
    network is made for one size or --size names one. Needs pip install "retouch[export]".

    Args:
        network: Name of weights or of a network (`retouch models` lists them), or a weight file.
        onnx: The ONNX file to write.
        torch: The torch.export file (.pt2) to write.
        size: Height and width of all crops, in pixels; default: free, or the network's own size.
        labels: For networks that obey a label map: make it the third input.
    """
    from retouch.pipeline.export import Crop, ExportError, to_onnx, to_torch
    from retouch.weights import named

    if onnx is None and torch is None:
        raise ExportError("name the file to write: --onnx FILE or --torch FILE")
    header, module = named.load(network)
    crop = Crop(header=header, network=module, size=size, labels=labels)
    for path, write, runtime in ((onnx, to_onnx, "ONNX Runtime"), (torch, to_torch, "the file")):
        if path is None:
            continue
        done = write(crop, path)
        sizes = ", ".join(f"{n}x{h}x{w}" for n, h, w in done.checked)
        print(f"{done.path}  {done.bytes / 1e6:.1f} MB  {done.inputs}")
        print(
            f"checked: {runtime} is within {done.difference}/255 of torch in the hole and equal"
            f" outside (batch x height x width: {sizes})"
        )
