"""An application's own records and events, as its file `records.py` defines them: read without running it. Pure.

The device imports the same file for the numbers; so it is Python, and of that a small part:

    from micropython import const             # may stand there
    GRIP = const(64)                          # constants: whole numbers, or names of constants above
    RECORDS = ((GRIP, "grip_force", "N", -1),)
    EVENTS = ((64, "handover"),)

Whatever else stands there is refused with its line. What is already defined in a database: `meanings`.
"""

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sealwire.names import EVENTS
from sealwire.records import APPLICATION_FIRST, RECORD_MAX, RECORDS

SOURCE_MAX = 64 * 1024
NAME_MAX = 32
UNIT_MAX = 16
SCALE_MAX = 9
INTEGER_BITS = 64  # of a constant
FILE = "records.py"

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
# words that a filter takes for something else, and names that stand for numbers without one
_RESERVED = re.compile(r"event|update|status|record_\d+", re.ASCII)
_RECORD_NAMES = frozenset(row[1] for row in RECORDS)
_RULES = "see the README of host_tools, records and events of an application's own"


class DefinitionError(Exception):
    """A file is no definition of records and events; the text has the line."""

    remedy = _RULES


class MeaningRefused(Exception):
    """An id or a name means something else already."""

    def __init__(self, what: str, remedy: str = "give the new meaning an id of its own: ids are never reused") -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """What a record's id means: the quantity is the integer that travels × 10^scale, in this unit."""

    number: int
    name: str
    unit: str
    scale: int


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """What an event's id means."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Definition:
    """What one file defines, and the constants that it names (which is all that a device has use for)."""

    records: tuple[Record, ...]
    events: tuple[Event, ...]
    constants: tuple[tuple[str, int], ...] = ()


def read(source: str, file: str = FILE) -> Definition:
    """Read a definition.

    Args:
        source: text of the file.
        file: what to call it in errors.

    Raises:
        DefinitionError: it holds anything but what the top of this module shows, or an id, name, unit or scale that
            no record can have.
    """
    return _Reader(file).read(source)


def device_source(definition: Definition) -> str:
    """The file as a release carries it: the constants alone, since names and units would cost the heap."""
    return "".join(f"{name} = {value}\n" for name, value in definition.constants)


_Row = TypeVar("_Row", Record, Event)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._constants: dict[str, int] = {}
        self._records: list[Record] | None = None
        self._events: list[Event] | None = None

    def read(self, source: str) -> Definition:
        if len(source) > SOURCE_MAX:
            raise DefinitionError(f"{self._file}: longer than {SOURCE_MAX} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except SyntaxError as error:
            raise DefinitionError(f"{self._file}, line {error.lineno or 1}: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError):
            raise DefinitionError(f"{self._file} is not Python") from None
        for index, node in enumerate(tree.body):
            self._statement(node, first=not index)
        if self._records is None and self._events is None:
            raise DefinitionError(f"{self._file} defines neither RECORDS nor EVENTS")
        return Definition(
            tuple(sorted(self._records or ())), tuple(sorted(self._events or ())), tuple(self._constants.items())
        )

    def _statement(self, node: ast.stmt, *, first: bool) -> None:
        if first and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            if isinstance(node.value.value, str):
                return  # what the file says of itself
        elif isinstance(node, ast.ImportFrom):
            names = [(alias.name, alias.asname) for alias in node.names]
            if (node.module, node.level, names) == ("micropython", 0, [("const", None)]):
                return
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self._assign(node.targets[0].id, node.value)
            return
        raise self._refused(node, "only constants, RECORDS and EVENTS may stand here")

    def _assign(self, name: str, value: ast.expr) -> None:
        if name == "RECORDS":
            if self._records is not None:
                raise self._refused(value, "RECORDS is defined a second time")
            self._records = self._table(value, 4, self._record)
        elif name == "EVENTS":
            if self._events is not None:
                raise self._refused(value, "EVENTS is defined a second time")
            self._events = self._table(value, 2, self._event)
        elif name in self._constants or name == "const":
            raise self._refused(value, f"{name} is defined a second time")
        else:
            self._constants[name] = self._integer(value)

    def _table(self, node: ast.expr, width: int, row: Callable[[ast.expr, list[ast.expr]], _Row]) -> list[_Row]:
        if not isinstance(node, ast.Tuple | ast.List):
            raise self._refused(node, "a table is a tuple of tuples")
        found: list[_Row] = []
        for item in node.elts:
            if not isinstance(item, ast.Tuple | ast.List) or len(item.elts) != width:
                raise self._refused(
                    item, "a record is (id, name, unit, scale)" if width == 4 else "an event is (id, name)"
                )
            made = row(item, item.elts)
            if any(made.number == other.number for other in found):
                raise self._refused(item, f"id {made.number} is defined a second time")
            if any(made.name == other.name for other in found):
                raise self._refused(item, f"{made.name} is defined a second time")
            found.append(made)
        return found

    def _record(self, node: ast.expr, cells: list[ast.expr]) -> Record:
        name = self._name(cells[1])
        if name in _RECORD_NAMES or _RESERVED.fullmatch(name):
            raise self._refused(cells[1], f"{name} is a name of Sealband's own")
        unit = self._text(cells[2])
        if len(unit) > UNIT_MAX or not unit.isprintable() or unit != unit.strip():
            raise self._refused(cells[2], f"a unit has at most {UNIT_MAX} printable characters, and no space around it")
        scale = self._integer(cells[3])
        if not -SCALE_MAX <= scale <= SCALE_MAX:
            raise self._refused(cells[3], f"scale {scale} is not in -{SCALE_MAX} to {SCALE_MAX}")
        return Record(self._number(cells[0]), name, unit, scale)

    def _event(self, node: ast.expr, cells: list[ast.expr]) -> Event:
        name = self._name(cells[1])
        if name in EVENTS.values():
            raise self._refused(cells[1], f"{name} is a name of Sealband's own")
        return Event(self._number(cells[0]), name)

    def _number(self, node: ast.expr) -> int:
        number = self._integer(node)
        if not APPLICATION_FIRST <= number <= RECORD_MAX:
            raise self._refused(
                node, f"id {number} is not in {APPLICATION_FIRST} to {RECORD_MAX}, an application's own"
            )
        return number

    def _name(self, node: ast.expr) -> str:
        name = self._text(node)
        if not _NAME.fullmatch(name) or len(name) > NAME_MAX:
            raise self._refused(
                node, f"a name is a to z, 0 to 9 and _, begins with a letter, {NAME_MAX} characters at most"
            )
        return name

    def _text(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise self._refused(node, "a text in quotes is wanted here")

    def _integer(self, node: ast.expr) -> int:
        if isinstance(node, ast.Name) and node.id in self._constants:
            return self._constants[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "const":
            if len(node.args) == 1 and not node.keywords:
                return self._integer(node.args[0])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return -self._integer(node.operand)
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.value.bit_length() < INTEGER_BITS:
            return node.value
        raise self._refused(
            node, f"a whole number of less than {INTEGER_BITS} bits is wanted here, or the name of one above"
        )

    def _refused(self, node: ast.AST, what: str) -> DefinitionError:
        return DefinitionError(f"{self._file}, line {getattr(node, 'lineno', 1)}: {what}")
