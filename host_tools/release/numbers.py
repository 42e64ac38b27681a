"""Puts the integers of `sealwire` into the code that uses them, before it is compiled for a board.

On the board a module of numbers is a dictionary of names, and each name a string that stays: a fifth of what the
modules of a running application take. MicroPython's `const()` does the same within a module; this does it between
modules. Lines keep their numbers, so that what a compiler or a traceback says is true of the source. Runs nothing.

What is put in: `NAME` after `from sealwire.x import NAME`, and `x.NAME` after `from sealwire import x`, where NAME is
assigned a literal integer at the top level of that module, and only where the imported name means nothing else in the
whole file. An import that nothing needs any more goes, unless another module may take the name from this one.
"""

import ast
from collections.abc import Collection, Mapping
from pathlib import Path

PACKAGE = "sealwire"
Numbers = Mapping[str, Mapping[str, int]]


def numbers(device: Path) -> dict[str, dict[str, int]]:
    """The integers of each module of a folder of device code's `lib/sealwire`, by name, by the module's last name."""
    found: dict[str, dict[str, int]] = {}
    for path in sorted((device / "lib" / PACKAGE).glob("*.py")):
        values = found[path.stem] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name, value = node.targets[0].id, _integer(node.value)
                if name in values:
                    raise ValueError(f"{path.name}: {name} is assigned twice")
                if value is not None:
                    values[name] = value
    return found


def put_in(source: str, known: Numbers, elsewhere: Collection[str] = ()) -> str:
    """The source with the numbers in place of their names, line by line; what is not valid Python comes back as it is.

    Args:
        source: of one module.
        known: what `numbers` found.
        elsewhere: names that other modules may take from this one: their imports stay.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return source  # the compiler says what is wrong
    work = _Work(tree, known, elsewhere)
    return _replaced(source, work.edits) if work.edits else source


class _Work:
    """What is to be replaced in one module.

    Attributes:
        edits: (node, new text).
    """

    def __init__(self, tree: ast.Module, known: Numbers, elsewhere: Collection[str]) -> None:
        self.edits: list[tuple[ast.expr | ast.stmt, str]] = []
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        modules, names = {}, {}
        for node in imports:
            for alias in node.names:
                here = alias.asname or alias.name
                if node.module == PACKAGE and alias.name in known:
                    modules[here] = known[alias.name]
                elif node.module and node.module.startswith(PACKAGE + "."):
                    values = known.get(node.module.removeprefix(PACKAGE + "."), {})
                    if alias.name in values:
                        names[here] = values[alias.name]
        for here in _bound(tree) | _twice(imports):
            modules.pop(here, None)
            names.pop(here, None)
        self._names = names
        self._modules = modules
        needed = self._use(tree) | set(elsewhere)
        for node in imports:
            ours = [alias for alias in node.names if _ours(node, alias, names, modules)]
            kept = [alias for alias in node.names if alias not in ours or (alias.asname or alias.name) in needed]
            if len(kept) < len(node.names):
                said = ", ".join(f"{one.name} as {one.asname}" if one.asname else one.name for one in kept)
                self.edits.append((node, f"from {node.module} import {said}" if kept else "pass"))

    def _use(self, tree: ast.Module) -> set[str]:
        """Replace all uses; the modules that are needed for something else."""
        needed = set()
        numbers_of = set()
        # 5.to_bytes is no Python
        apart = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and isinstance(node.ctx, ast.Load):
                value = self._modules.get(node.value.id, {}).get(node.attr)
                if value is not None:
                    numbers_of.add(node.value)
                    self.edits.append((node, _literal(value, node in apart)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                if node.id in self._names:
                    self.edits.append((node, _literal(self._names[node.id], node in apart)))
                elif node.id in self._modules and node not in numbers_of:
                    needed.add(node.id)
        return needed


def _ours(node: ast.ImportFrom, alias: ast.alias, names: Mapping[str, int], modules: Numbers) -> bool:
    here = alias.asname or alias.name
    if node.module == PACKAGE:
        return here in modules
    return bool(node.module and node.module.startswith(PACKAGE + ".")) and here in names


def _bound(tree: ast.Module) -> set[str]:
    """Names that are given a meaning otherwise than by `from … import`, or that are told in strings."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name):
                found.add(name)
            case ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.Global(names=several) | ast.Nonlocal(names=several):
                found.update(several)
            case ast.Import(names=aliases):
                found.update((alias.asname or alias.name).partition(".")[0] for alias in aliases)
            case ast.Constant(value=str(text)):
                found.add(text)
    return found


def _twice(imports: list[ast.ImportFrom]) -> set[str]:
    """Names that stand for different things, in different functions for instance."""
    meaning: dict[str, tuple[str | None, str]] = {}
    found = set()
    for node in imports:
        for alias in node.names:
            here, what = alias.asname or alias.name, (node.module, alias.name)
            if meaning.setdefault(here, what) != what:
                found.add(here)
    return found


def _integer(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return None
    return value if type(value) is int else None


def _literal(value: int, apart: bool) -> str:
    return f"({value})" if apart or value < 0 else str(value)


def _replaced(source: str, edits: list[tuple[ast.expr | ast.stmt, str]]) -> str:
    """The source with each of these nodes as its new text, on as many lines as it had; nodes don't overlap."""
    lines = [line.encode() for line in source.split("\n")]
    for node, text in sorted(edits, key=lambda edit: (edit[0].lineno, edit[0].col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        rest = lines[last][node.end_col_offset or 0 :]
        lines[first] = lines[first][: node.col_offset] + text.encode() + rest
        for index in range(first + 1, last + 1):
            lines[index] = b""
    return b"\n".join(lines).decode()
