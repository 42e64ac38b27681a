"""README and SECURITY.md tell the truth: every command is in a README, every test named in SECURITY.md exists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from host_tools.cli import COMMANDS

ROOT = Path(__file__).parents[2]
READMES = [
    path.read_text()
    for path in ROOT.rglob("README.md")
    if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
]


def commands() -> Iterator[tuple[str, str]]:
    """(group, command) of everything that `sealband` can be told; for a command of a group's group, both words."""
    for name in COMMANDS:
        group = importlib.import_module(f"host_tools.cli.{name}").group
        if isinstance(group, click.Group):
            yield from walk(name, group)
        else:
            yield name, ""


def walk(name: str, group: click.Group) -> Iterator[tuple[str, str]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(f"{name} {word}", command)
        else:
            yield name, word


@pytest.mark.parametrize(("group", "word"), list(commands()))
def test_command_stands_in_a_readme(group: str, word: str) -> None:
    # on one line with its group, as in `sealband trust key`, `public`, or in a block of commands of that group
    pattern = re.compile(rf"sealband {group}\b[^\n]*\b{re.escape(word)}\b" if word else rf"sealband {group}\b")
    assert any(pattern.search(text) for text in READMES), f"sealband {group} {word}".strip()


def test_tests_that_security_md_names_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    paths = list((ROOT / "tests").rglob("test_*.py"))
    names = {name for path in paths for name in re.findall(r"def (test_\w+)", path.read_text())}
    names |= {path.name for path in paths}
    named = set(re.findall(r"\btest_\w+(?:\.py|…|\*)?", text))
    missing = [
        name
        for name in sorted(named)
        if name not in names and not (name[-1] in "…*" and any(other.startswith(name[:-1]) for other in names))
    ]
    assert len(named) > 100
    assert missing == []
