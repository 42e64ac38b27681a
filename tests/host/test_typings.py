"""The typed stubs for the application interface agree with the device's code, and type checkers can use them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import boards
from host_tools import cli

ROOT = Path(__file__).parents[2]
TYPINGS = ROOT / "device" / "typings"
LIBRARY = ROOT / "device" / "lib"
STUBS = sorted(path.relative_to(TYPINGS) for path in TYPINGS.rglob("*.pyi"))
# what the type checker alone knows; each says so
TYPES_ONLY = {"Watcher", "Bus", "VoltageSource"}
# modules of which an application may use everything that is public
WHOLE = ("sealband/app.py", "sealband/sensors/base.py", "sealwire/recordids.py")
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def source(stub: Path) -> ast.Module:
    if stub.as_posix() == "board.pyi":
        return ast.parse(boards.load("VIRTUAL").module())
    return ast.parse((LIBRARY / stub.with_suffix(".py")).read_text())


def functions(body: list[ast.stmt]) -> dict[str, Definition]:
    return {node.name: node for node in body if isinstance(node, Definition)}


def classes(body: list[ast.stmt]) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def parameters(definition: Definition, number: dict[str, int]) -> list[tuple[str, str]]:
    """(name, default) of each; "…" where a stub leaves the default out, with constants of the module as their value."""
    spec = definition.args
    names = [arg.arg for arg in [*spec.posonlyargs, *spec.args]]
    defaults = ["", *[""] * (len(names) - len(spec.defaults)), *(value(one, number) for one in spec.defaults)][1:]
    found = list(zip(names, defaults, strict=True))
    found += [
        (arg.arg, "" if one is None else value(one, number))
        for arg, one in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)
    ]
    found += [("*" + spec.vararg.arg, "")] if spec.vararg else []
    return found + ([("**" + spec.kwarg.arg, "")] if spec.kwarg else [])


def value(node: ast.expr, number: dict[str, int]) -> str:
    if isinstance(node, ast.Name) and node.id in number:
        return str(number[node.id])
    try:
        return repr(ast.literal_eval(node))
    except ValueError:
        return ast.unparse(node)


def numbers(tree: ast.Module) -> dict[str, int]:
    """Constants of a module: NAME = const(1)."""
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="const"), args=[ast.Constant(value=value)])
            ):
                found[name] = value
    return found


def same(stub: Definition, real: Definition, number: dict[str, int], where: str) -> None:
    told, is_so = parameters(stub, number), parameters(real, number)
    assert [name for name, _ in told] == [name for name, _ in is_so], where
    for (name, default), (_, real_default) in zip(told, is_so, strict=True):
        assert default in ("Ellipsis", real_default), f"{where}: {name}={default}, and not {real_default}"


def assigned(tree: ast.AST) -> Iterator[str]:
    """Names and attributes of self that anything is assigned to."""
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            for one in target.elts if isinstance(target, ast.Tuple) else (target,):
                if isinstance(one, ast.Name):
                    yield one.id
                elif isinstance(one, ast.Attribute):
                    yield one.attr
        if isinstance(node, ast.Global):
            yield from node.names


def members(tree: ast.Module, name: str) -> tuple[dict[str, Definition], set[str]]:
    """Methods and attributes of a class, with those of its base in the same file."""
    own = classes(tree.body)[name]
    methods, attributes = functions(own.body), set(assigned(own))
    for base in own.bases:
        if isinstance(base, ast.Name) and base.id in classes(tree.body):
            more, also = members(tree, base.id)
            methods, attributes = more | methods, attributes | also
    return methods, attributes


@pytest.mark.parametrize("stub", STUBS, ids=str)
def test_stub_says_what_the_device_s_code_says(stub: Path) -> None:
    told, real = ast.parse((TYPINGS / stub).read_text()), source(stub)
    number = numbers(real)
    for name, function in functions(told.body).items():
        assert name in functions(real.body), f"{stub}: {name} is not there"
        same(function, functions(real.body)[name], number, f"{stub}: {name}")
    for name, one in classes(told.body).items():
        if name in TYPES_ONLY:
            assert "type checkers only" in " ".join((ast.get_docstring(one) or "").split()), name
            continue
        assert name in classes(real.body), f"{stub}: class {name} is not there"
        if (stub.name, name) == ("app.pyi", "App"):
            continue  # see below
        methods, attributes = members(real, name)
        for method, definition in functions(one.body).items():
            assert method in methods or method in attributes, f"{stub}: {name}.{method} is not there"
            if method in methods:
                same(definition, methods[method], number, f"{stub}: {name}.{method}")
        for node in one.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and stub.name != "config.pyi":
                assert node.target.id in attributes, f"{stub}: {name}.{node.target.id} is not there"
    constants = {
        node.target.id for node in told.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert constants <= set(assigned(real)), stub


def test_app_takes_what_its_declaration_takes() -> None:
    told = functions(classes(ast.parse((TYPINGS / "sealband/app.pyi").read_text()).body)["App"].body)["__init__"]
    real = functions(ast.parse((LIBRARY / "sealband/declaration.py").read_text()).body)["take"]
    assert parameters(told, {})[1:] == parameters(real, {})[1:]


def test_settings_are_those_of_the_wire() -> None:
    from sealwire import settings

    stub = classes(ast.parse((TYPINGS / "sealband/config.pyi").read_text()).body)["Config"]
    told = [
        node.target.id for node in stub.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert told == [row[1] for row in settings.SETTINGS]
    text = ast.unparse(stub)
    for _, name, least, greatest, _ in settings.SETTINGS:
        documented = text.split(f"{name}: int")[1].split("\n")[1]
        assert {str(least), str(greatest)} <= set(re.findall(r"\d+", documented)) | {"0", "1"}, name


@pytest.mark.parametrize("module", WHOLE)
def test_nothing_public_is_missing_from_the_stub(module: str) -> None:
    real = ast.parse((LIBRARY / module).read_text())
    told = ast.parse((TYPINGS / module).with_suffix(".pyi").read_text())
    public = {name for name in [*functions(real.body), *classes(real.body)] if not name.startswith("_")}
    public |= {name for node in real.body if isinstance(node, ast.Assign) for name in assigned(node) if name[0] != "_"}
    there = {*functions(told.body), *classes(told.body)}
    there |= {
        node.target.id for node in told.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    there |= {name for node in told.body if isinstance(node, ast.Assign) for name in assigned(node)}
    assert public <= there
    for name, one in classes(real.body).items():
        methods = {method for method in functions(one.body) if not method.startswith("_")}
        assert methods <= set(functions(classes(told.body)[name].body)), name


def test_everything_in_the_stubs_is_documented() -> None:
    for stub in STUBS:
        tree = ast.parse((TYPINGS / stub).read_text())
        assert ast.get_docstring(tree), stub
        for name, one in [*functions(tree.body).items(), *classes(tree.body).items()]:
            assert ast.get_docstring(one), f"{stub}: {name}"


def checked(folder: Path, typings: Path, cache: Path) -> str:
    """mypy's verdict over a folder's app.py, as of a developer who has these stubs and nothing else of ours."""
    command = [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--allow-untyped-defs"]
    # device code bears no annotations but builtins; an empty list then has no type of its own
    command += [
        "--allow-untyped-calls",
        "--disable-error-code=var-annotated",
        f"--cache-dir={cache}",
        "--no-site-packages",
        "app.py",
    ]
    environment = {"MYPYPATH": str(typings), "PATH": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy")


def examples() -> dict[str, str]:
    """The files of the example in device/README.md."""
    section = (ROOT / "device" / "README.md").read_text().split("## Writing an application")[1].split("\n## ")[0]
    blocks = [part.group(0) for part in re.finditer(r"(?:^(?:    .*)?\n)+", section, re.MULTILINE)]
    texts = ["\n".join(line[4:] for line in block.splitlines()).strip() + "\n" for block in blocks]
    names = {"app.py": "def build(", "records.py": "RECORDS = "}
    return {name: next(text for text in texts if sign in text) for name, sign in names.items()}


@pytest.mark.parametrize("which", ["device/app.py", "the README's example"])
def test_mypy_strict_accepts(which: str, tmp_path: Path, cache: Path) -> None:
    files = examples() if which != "device/app.py" else {"app.py": (ROOT / "device" / "app.py").read_text()}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert "Success" in checked(tmp_path, TYPINGS, cache)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("Every('60', None)", "incompatible type"),
        ("App(sensors=[], links=[], send_every=60)", "Unexpected keyword"),
        ("SkinTemperature(board.i2c(), adress=1)", "Unexpected keyword"),
        ("SkinTemperature(board.i2c()).reed()", "has no attribute"),
    ],
)
def test_mistake_in_an_application_is_seen_by_the_editor(wrong: str, said: str, tmp_path: Path, cache: Path) -> None:
    head = "import board\nfrom sealband.app import App, Every\nfrom sealband.sensors.tmp117 import SkinTemperature\n"
    (tmp_path / "app.py").write_text(f"{head}{wrong}\nprint(App, Every, board)\n")
    assert said in checked(tmp_path, TYPINGS, cache)


def test_stubs_are_put_where_editors_look_and_nothing_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "typings"
    assert cli.run(["device", "stubs", str(target)]) == 0
    assert sorted(path.relative_to(target) for path in target.rglob("*.pyi")) == STUBS
    assert cli.run(["device", "stubs", str(target)]) == 0
    (target / "sealband" / "app.pyi").write_text("mine")
    assert cli.run(["device", "stubs", str(target)]) == 1
    assert (target / "sealband" / "app.pyi").read_text() == "mine"
