"""The README's code runs, its commands exist, its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(code[0], "README.md", "exec"), {})
    assert (tmp_path / "clean.jpg").stat().st_size > 10_000


def test_the_readme_has_exactly_two_set_up_commands():
    commands = re.findall(r"<!-- command: (\w+) -->\n```bash\n(.+)\n```", README)
    assert [name for name, _ in commands] == ["fill", "test"]


def test_commands_of_the_readme_exist():
    from retouch.cli import _COMMANDS

    named = set(re.findall(r"^retouch (\w+)", README, re.MULTILINE))
    assert named
    assert named <= set(_COMMANDS)


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
