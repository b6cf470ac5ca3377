"""Command line: `retouch <command>`. Commands import torch only when they run."""

import sys

from cyclopts import App

from retouch import __version__

app = App(
    name="retouch",
    help="Fill holes in pictures, and train, measure and compare the networks that do it.",
    version=f"retouch {__version__}",
)
app.command("retouch.cli.fill:fill")
app.command("retouch.cli.masks:masks")
app.command("retouch.cli.models:models")
app.command("retouch.cli.weights:app", name="weights")
app.command("retouch.cli.train:train")
app.command("retouch.cli.evaluate:evaluate")


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
