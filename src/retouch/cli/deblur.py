"""`retouch deblur`: take motion blur out of pictures."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def deblur(
    picture: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    network: str = "semnet-deblur",
    weights: Path | None = None,
    device: str = "auto",
    precision: Literal["auto", "float32", "bf16"] = "auto",
    lossless: bool = False,
) -> None:
    """Take motion blur out of a picture, or of every picture of a folder.

    The whole picture changes; EXIF, colour profile, transparency and bit depth are kept.

    Exit code: 0 all done, 1 some pictures of a folder failed, 2 nothing could be done.

    Args:
        picture: A picture, or a folder of pictures.
        output: File or folder to write; default: photo_sharp.jpg, or the folder NAME_sharp.
        network: Name of weights for deblurring: `retouch weights list`.
        weights: A weight file, instead of --network.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: bf16 is faster where the processor computes in it; auto uses it there.
        lossless: Write PNG (or TIFF) where the picture's own format loses.
    """
    from rich.progress import track

    from retouch import pictures
    from retouch.layers.host_memory import keep_freed_memory
    from retouch.pipeline.deblurrer import Deblurrer

    many = picture.is_dir()
    found = pictures.find(picture) if many else [picture]
    if not found:
        raise pictures.PictureError(f"{picture} holds no picture")
    folder = output or picture.with_name(f"{picture.resolve().name}_sharp")
    into = many or (output is not None and output.is_dir())
    if many:
        folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    deblurrer = Deblurrer.load(weights or network, device=device, precision=precision)
    failed = 0
    for path in track(found, "Deblurring", disable=not many, transient=True):
        target = folder / path.name if into else output
        target = target or path.with_name(f"{path.stem}_sharp{path.suffix}")
        try:
            sharp = deblurrer.sharpen(path)
            written = pictures.write(target, sharp, lossless=lossless)
        except pictures.PictureError as error:
            failed += 1
            print(f"retouch: {error}", file=sys.stderr)
        else:
            print(written)
    if failed:
        sys.exit(1 if many else 2)
