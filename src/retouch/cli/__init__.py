"""Command line: `retouch <command>`. Commands import torch only when they run."""

import sys

from cyclopts import App

from retouch import __version__

app = App(
    name="retouch",
    help="Fill holes in pictures, and train, measure and compare the networks that do it.",
    version=f"retouch {__version__}",
)
_MORE = {
    "fill": (
        "White in the mask is what goes. Everything else stays as it is, bit for bit in lossless "
        "formats (JPEG must be encoded again: --lossless writes PNG instead). EXIF, colour "
        "profile, transparency and bit depth are kept.\n\n"
        "Exit code: 0 all filled, 1 some pictures of a folder failed, 2 nothing could be done."
    ),
}
_COMMANDS = {
    "fill": ("fill:fill", "Fill the holes of a picture or of a folder of pictures."),
    "deblur": ("deblur:deblur", "Take motion blur out of a picture or a folder of pictures."),
    "masks": ("masks:masks", "Make seeded masks for training and testing."),
    "models": ("models:models", "List the networks and the weights at hand."),
    "weights": ("weights:app", "Bring in, list and look at weight files."),
    "train": ("train:train", "Train a network from a recipe, or go on with a run."),
    "data": ("data:app", "List pictures for recipes, and check sets of pictures."),
    "runs": ("runs:runs", "Compare training runs and draw their curves."),
    "export": ("export:export", "Write a network with its pipeline as an ONNX or torch file."),
    "ui": ("ui:ui", "Brush things away in the browser; edit label maps."),
    "evaluate": ("evaluate:evaluate", "Measure networks beside classical methods."),
}
for _name, (_place, _help) in _COMMANDS.items():
    _more = {"help_epilogue": _MORE[_name]} if _name in _MORE else {}
    app.command(f"retouch.cli.{_place}", name=_name, help=_help, **_more)


def main() -> None:
    """Run a command; a person's mistake ends in one line and exit code 2, never in a traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # sorted below: what is not a person's mistake is raised again
        if not _is_mistake(error):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print("retouch: " + " ".join(text.split()), file=sys.stderr)
        sys.exit(2)


def _is_mistake(error: Exception) -> bool:
    """Whether an error was made for a person to read: ours, and files that cannot be used."""
    return isinstance(error, OSError) or type(error).__module__.startswith("retouch.")
