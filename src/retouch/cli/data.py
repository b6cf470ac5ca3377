"""`retouch data`: file lists and checks of picture sets."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="data", help="List pictures for recipes, and check sets of pictures.")


@app.command(name="list")
def write(*sources: Path, output: Annotated[Path, Parameter(name=["--output", "-o"])]) -> None:
    """Write a file list: one path per line, relative to the list.

    Label maps (`KEY.label.png`) and blurred twins (`KEY.blur.png`) are listed with their pictures.

    Args:
        sources: Folders, searched through and through, or pictures.
        output: The list, such as `train.flist`.
    """
    from retouch.data.sources import write_list

    print(f"{write_list(sources, output)} pictures in {output}")


@app.command
def check(*sources: str, against: tuple[str, ...] = ()) -> None:
    """Decode every picture; name the broken ones, and those that a second set holds too.

    Args:
        sources: Folders, file lists, tar shards or patterns of these.
        against: The second set, such as the test pictures. Repeatable.
    """
    from retouch.data.decoded import Decoded, overlap
    from retouch.data.sources import DataError, entries

    def marks(places: tuple[str, ...]) -> list[tuple[str, bytes]]:
        found = entries(places)
        return list(zip((e.key for e in found), Decoded(found, budget=0).fingerprints, strict=True))

    mine = marks(sources)
    different = len({mark for _, mark in mine})
    print(f"{len(mine)} pictures, all readable, {different} different")
    if against and (pairs := overlap(mine, marks(against))):
        examples = ", ".join(f"{a} = {b}" for a, b in pairs[:5])
        raise DataError(f"{len(pairs)} pictures are in both sets: {examples}")
    if against:
        print("no picture is in both sets (by content)")
