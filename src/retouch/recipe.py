"""Recipes: one strict TOML file per run; an override is one line of TOML."""

import tomllib
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from cattrs import BaseValidationError, Converter, ForbiddenExtraKeysError, transform_error
from cattrs.v import format_exception

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe has an unknown key, a missing key or a value of the wrong type."""


def _exact(value: Any, kind: type[Any]) -> Any:
    # cattrs on its own calls bool("false"), which is True, and int("5").
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise ValueError(f"expected {kind.__name__}, got {value!r}")


def _chosen(value: Any, kind: Any) -> Any:
    known = get_args(kind)
    if any(value == one and type(value) is type(one) for one in known):
        return value
    raise ValueError(f"expected one of {', '.join(map(str, known))}, got {value!r}")


def _listed(value: Any, kind: Any) -> Any:
    # A text is a sequence, too: its letters would become the entries.
    if not isinstance(value, list | tuple):
        raise ValueError(f"expected a list, got {value!r}")
    return _elements.structure(value, kind)


_elements = Converter(forbid_extra_keys=True)
_elements.register_structure_hook(Path, lambda value, _: Path(_exact(value, str)))
_elements.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, _chosen)
for _kind in (bool, int, float, str):
    _elements.register_structure_hook(_kind, _exact)
_converter = _elements.copy()
_converter.register_structure_hook_func(lambda kind: get_origin(kind) is tuple, _listed)


def read(path: Path) -> dict[str, Any]:
    """Read a TOML file as it stands, whatever its keys.

    Raises:
        RecipeError: If the file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None


def load(path: Path, cls: type[T], overrides: Iterable[str] = ()) -> T:
    """Read a TOML recipe as `cls`; later overrides win.

    Args:
        path: The recipe file.
        cls: A frozen dataclass.
        overrides: Lines of TOML, e.g. `optim.lr = 3e-4`.

    Raises:
        RecipeError: If the file is missing or not TOML, a key is unknown or missing, or a value
            does not fit its type.
    """
    raw = read(path)
    for line in overrides:
        try:
            _merge(raw, tomllib.loads(line))
        except tomllib.TOMLDecodeError as error:
            hint = "text needs quotes: -s 'network=\"isnet\"'"
            raise RecipeError(f"override {line!r} is not TOML ({error}); {hint}") from None
    return structure(raw, cls, where=str(path))


def structure(raw: dict[str, Any], cls: type[T], *, where: str) -> T:
    """Turn plain values into a frozen dataclass.

    Args:
        raw: Nested dicts of plain values.
        cls: A frozen dataclass.
        where: Named in the error message.

    Raises:
        RecipeError: If a key is unknown or missing, or a value does not fit its type.
    """
    try:
        return _converter.structure(raw, cls)
    except BaseValidationError as error:
        problems = transform_error(error, format_exception=_explain)
        found = "; ".join(problem.removesuffix(" @ $") for problem in problems)
        raise RecipeError(f"{where}: {found}") from None
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from None


def plain(value: Any) -> Any:
    """Turn a dataclass into what TOML and JSON can hold; entries of None are left out."""
    return _without_none(_converter.unstructure(value))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _explain(error: BaseException, kind: type | None) -> str:
    # cattrs hides the text of a ValueError, and ours (from __post_init__) is the useful part.
    if isinstance(error, ForbiddenExtraKeysError):
        known = ", ".join(field.name for field in fields(error.cl))
        return f"no {', '.join(sorted(error.extra_fields))}; there are {known}"
    if isinstance(error, ValueError) and str(error):
        return str(error)
    if isinstance(error, AttributeError):  # something else where keys were to come
        return "expected a table"
    return format_exception(error, kind)


def _merge(base: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
