"""docs/settings.md names every variable, field, file and port that the code knows, with its default, and no other."""

import ast
import importlib
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from chai_app import settings
from chai_app.enhance.models import Manner
from chai_app.models import catalogue
from chai_app.models.vocabulary import Vocabulary
from chai_app.server import private_folder
from ui import server

ROOT = Path(__file__).parent.parent
MODEL, ENHANCER = "model's chai.json", "enhancer's chai.json"
_ROW = re.compile(r"^\| (?P<kind>[^|]+) \| `(?P<name>[^`|]+)` \| (?P<default>[^|]*)\| (?P<about>[^|]*)\|$", re.M)


def table() -> dict[str, dict[str, tuple[str, str]]]:
    """Default and description by kind and name."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for row in _ROW.finditer((ROOT / "docs" / "settings.md").read_text(encoding="utf-8")):
        of_kind = found.setdefault(row["kind"], {})
        assert row["name"] not in of_kind, f"{row['name']} stands there twice"
        of_kind[row["name"]] = row["default"].strip(), row["about"].strip()
    return found


TABLE = table()


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of the modules that may name a variable or a folder, with the module's name."""
    found = []
    for folder in ("chai_app", "ui", "nodes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            text = path.read_text(encoding="utf-8")
            if re.search("environ|getenv|home", text):  # the others are not worth the seconds
                found += [(module, node) for node in ast.walk(ast.parse(text))]
    return found


def is_environment(node: ast.AST) -> bool:
    """Whether it is os.environ, or what Settings calls it."""
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id == "values"
    )


@cache
def variables() -> dict[str, str]:
    """The environment variables in the code: how each is used (read, set, or set by default)."""
    found: dict[str, str] = {}
    for _, node in nodes():
        name, use = None, "read"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if is_environment(node.func.value) or node.func.attr == "getenv":
                name, use = node.args[0], "default" if node.func.attr == "setdefault" else "read"
        elif isinstance(node, ast.Subscript) and is_environment(node.value):
            name, use = node.slice, "set" if isinstance(node.ctx, ast.Store) else "read"
        elif isinstance(node, ast.Compare) and is_environment(node.comparators[0]):
            name = node.left
        if isinstance(name, ast.Constant) and re.fullmatch(r"[A-Z][A-Z0-9_]+", str(name.value)):
            found[name.value] = use
    return found


def kept_in_home() -> set[str]:
    """The names of what the code puts right into CHAI_HOME: what stands after `home /`."""
    found = set()
    for module, node in nodes():
        if module.startswith("chai_app.bench") or not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
            continue
        left = ast.unparse(node.left).removesuffix(".absolute()")
        if re.fullmatch(r"(?:[\w.]+\.)?_?home", left):
            right = node.right
            if isinstance(right, ast.Name):
                found.add(getattr(importlib.import_module(module), right.id))
            else:
                found.add(ast.literal_eval(right))
    return found


def of_use(use: str) -> set[str]:
    return {name for name, found in variables().items() if found == use}


@pytest.mark.parametrize(
    ("kind", "use"), [("variable", "read"), ("set by the program", "set"), ("set unless you do", "default")]
)
def test_every_environment_variable_stands_in_the_table(kind, use):
    assert TABLE[kind].keys() == of_use(use)


def test_what_a_variable_is_without_being_set_and_what_it_may_be_is_told():
    usual = settings.Settings.from_environment({"CHAI_HOME": "/home"})
    choices = {
        "CHAI_STORE": settings.Store,
        "CHAI_COUNT_GATE": settings.CountGate,
        "CHAI_COMPILE": settings.Compile,
        "CHAI_TEXT_ENCODER": settings.TextEncoder,
    }
    for name, choice in choices.items():
        default, about = TABLE["variable"][name]
        assert default == f"`{getattr(usual, name.removeprefix('CHAI_').lower())}`"
        assert set(re.findall("`([^`]+)`", about)) >= set(get_args(choice)), name
    assert TABLE["variable"]["CHAI_REUSE_DEPTH"][0] == f"`{usual.reuse_depth}`"
    assert f"1 to {settings.DEEPEST}" in TABLE["variable"]["CHAI_REUSE_DEPTH"][1]
    assert TABLE["variable"]["CHAI_OUTPUT"][0] == f"`{usual.output_folder}`"
    assert TABLE["variable"]["CHAI_MODELS"][0] == f"`{usual.models_folder.name}` in `CHAI_HOME`"


def test_every_field_of_a_models_card_stands_in_the_table():
    source = ast.parse(Path(catalogue.__file__).read_text(encoding="utf-8"))
    calls = [ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.Call | ast.Subscript)]
    read = {found[1] for call in calls if (found := re.match(r"card(?:\.get\(|\[)'(\w+)'", call))}
    assert read >= {"defaults", "vocabulary"}
    wanted = read - {"vocabulary"}
    wanted |= {f"vocabulary.{field.name}" for field in fields(Vocabulary)}
    assert TABLE[MODEL].keys() == wanted


def test_every_field_of_an_enhancers_card_stands_in_the_table():
    assert TABLE[ENHANCER].keys() == {field.name for field in fields(Manner)}


def test_the_defaults_of_an_enhancers_card_are_those_of_the_code():
    for field in fields(Manner):
        assert json.loads(TABLE[ENHANCER][field.name][0].strip("`")) == field.default, field.name


def test_everything_that_lies_in_the_home_folder_stands_in_the_table():
    assert TABLE["in `CHAI_HOME`"].keys() == kept_in_home()
    assert TABLE["in the system's temporary folder"].keys() == {f"{private_folder._PREFIX}*"}


def test_the_port_is_the_servers():
    assert TABLE["port"].keys() == {str(server.DEFAULT_PORT)}
    assert str(server.DEFAULT_PORT + server.PORTS_TRIED - 1) in TABLE["port"][str(server.DEFAULT_PORT)][1]


def test_there_is_no_other_kind_of_row():
    kinds = {"variable", "set by the program", "set unless you do", MODEL, ENHANCER, "in `CHAI_HOME`"}
    assert TABLE.keys() == kinds | {"in the system's temporary folder", "port"}
