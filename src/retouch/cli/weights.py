"""`retouch weights`: bring in, list and look at weight files."""

from pathlib import Path

from cyclopts import App

app = App(name="weights", help="Bring in, list and look at weight files.")


@app.command(name="import")
def bring_in(file: Path, *, name: str | None = None, output: Path | None = None) -> None:
    """Turn an authors' checkpoint into a Retouch weight file.

    The file is recognised by its contents, converted, run once, and written to the store. No code
    in it is executed.

    Args:
        file: `.pth`, `.pt`, `.ckpt`, `.safetensors`, or a TensorFlow 1 checkpoint's `.index` file.
        name: Name of the weights; default `<network>-<file's stem>`.
        output: Where to write; default: into the weight store.
    """
    from retouch.weights import importing

    found = importing.bring_in(file, name=name, output=output)
    print(f"{file} is a {found.what}: {found.parameters:,} parameters, {found.config}")
    print(f"written to {found.path}; use it with --network {found.name}")


@app.command(name="list")
def show() -> None:
    """List the weight files at hand and the known files that can be added."""
    from rich.console import Console
    from rich.table import Table

    from retouch.weights import files, store

    console = Console()
    table = Table("name", "network", "trained on", "licence", "MB", title="At hand")
    for name, path in sorted(store.own().items()):
        header = files.read_header(path)
        size = f"{path.stat().st_size / 1e6:.1f}"
        table.add_row(name, header.network, ", ".join(header.data), header.license, size)
    console.print(table)
    known = Table("name", "what it is for", "in the store", title="Known files of others")
    for entry in store.manifest():
        here = any((store.folder() / file.file).is_file() for file in entry.files)
        known.add_row(entry.name, entry.what, "yes" if here else "no")
    console.print(known)
    console.print(f"Store: {store.folder()}")


@app.command
def info(name: str) -> None:
    """Print the header of a weight file.

    Args:
        name: A file, the name of weights, or a network's name.
    """
    import json

    from retouch import recipe
    from retouch.weights import files, named

    path = named.find(name)
    print(path)
    print(json.dumps(recipe.plain(files.read_header(path)), indent=2))


@app.command
def add(file: Path) -> None:
    """Copy a known file (VGG-19, LPIPS, BiSeNet, ...) into the store, checked by its sha256.

    Args:
        file: Any file that `retouch weights list` names.
    """
    from retouch.weights import store

    entry, place = store.add(file)
    print(f"{file} is {entry.name} ({entry.what}); copied to {place}")
