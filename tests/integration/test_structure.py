"""The sizes of files and functions, and imports without circles, as CONTRIBUTING.md promises."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastlsgd

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "fastlsgd").rglob("*.py"))
OTHERS = sorted(path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py"))
MOST_LINES = {"fastlsgd": 700, "bench": 700, "tests": 600}
MOST_LINES_OF_FUNCTION = 60
MOST_PARAMETERS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(tree: ast.AST, in_class: bool = False) -> Iterator[tuple[Function, bool]]:
    """Yield all functions, nested ones too, and whether each is a method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, in_class
        yield from functions_of(node, isinstance(node, ast.ClassDef))


def n_lines(function: Function) -> int:
    """Count the lines of a function without docstrings, its own and those of nested functions."""
    total = function.end_lineno - function.lineno + 1
    for node, _ in [(function, False), *functions_of(function)]:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            total -= first.end_lineno - first.lineno + 1
    return total


def n_parameters(function: Function, is_method: bool) -> int:
    parts = function.args
    names = [part.arg for part in (*parts.posonlyargs, *parts.args, *parts.kwonlyargs)]
    if is_method and names and names[0] in ("self", "cls"):
        del names[0]
    return len(names) + (parts.vararg is not None) + (parts.kwarg is not None)


def is_compiled_kernel(function: Function) -> bool:
    """Numba's kernels take each array and number as an argument of its own."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).lower().endswith("kernel"):
            return True
    return False


def may_take_many(function: Function, is_method: bool, path: Path) -> bool:
    """Public functions, constructors of estimators and compiled kernels may."""
    if is_method:
        return function.name == "__init__" and path.parent.name == "linear_model"
    public = {*fastlsgd.__all__, *fastlsgd.streaming.__all__}
    return function.name in public or is_compiled_kernel(function)


@pytest.mark.parametrize("folder", MOST_LINES)
def test_files_are_of_one_subject(folder):
    sizes = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in (*PACKAGE, *OTHERS)
        if path.relative_to(ROOT).parts[0] == folder
    }
    assert {path: n for path, n in sizes.items() if n > MOST_LINES[folder]} == {}


def test_functions_fit_on_a_screen():
    too_long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {n_lines(function)} lines"
        for path in PACKAGE
        for function, _ in functions_of(ast.parse(path.read_text("utf-8")))
        if n_lines(function) > MOST_LINES_OF_FUNCTION
    ]
    assert too_long == []


def test_functions_take_few_parameters():
    too_many = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in PACKAGE
        for function, is_method in functions_of(ast.parse(path.read_text("utf-8")))
        if n_parameters(function, is_method) > MOST_PARAMETERS
        and not may_take_many(function, is_method, path)
    ]
    assert too_many == []


# ------------------------------------------------------------------------------------ imports


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE}


def imported_by(name: str) -> set[str]:
    """Return the modules of the package that a module imports, be it inside a function."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= {member if member in MODULES else source for member in members}
    return (found & MODULES.keys()) - {name}


def test_imports_have_no_circle():
    """Remove, round by round, modules at the end of all imports; those of a circle stay."""
    left = {name: imported_by(name) for name in MODULES}
    while True:
        left = {name: imports & left.keys() for name, imports in left.items()}
        imported = set().union(*left.values())
        inner = {name: imports for name, imports in left.items() if imports and name in imported}
        if len(inner) == len(left):
            break
        left = inner
    assert left == {}


@pytest.mark.parametrize("path", PACKAGE, ids=module_name)
def test_names_that_start_with_an_underscore_stay_in_their_module(path):
    imported = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.level or "fastlsgd" in (node.module or ""))
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    name = module_name(path)
    folders = {module.rpartition(".")[2] for module in MODULES if module != name}
    assert [alias for alias in imported if alias not in folders] == []


# -------------------------------------------------------------------------------------- names

# Properties of each backend, which a Protocol declares.
OF_A_BACKEND = ("SUMS_ARE_SPLIT", "MAKES_WINDOWS")


def defined_names(kind: str) -> dict[str, set[tuple[str, str]]]:
    """Return each name of a class or constant, with its values and the subjects that define it.

    The subject of a file of `kernels/numba_cpu` is its name, and that of its twin in
    `kernels/cuda` the same one: what corresponds there may have one name. The classes of `sklearn/`
    have scikit-learn's names, and those of `dask/` the names of their twins for rows in memory.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    for path in PACKAGE:
        subject = path.relative_to(ROOT / "fastlsgd").as_posix()
        subject = subject.replace("/cuda/", "/numba_cpu/")
        is_twin = path.parent.name in ("sklearn", "dask")
        for node in ast.parse(path.read_text("utf-8")).body:
            if kind == "class" and isinstance(node, ast.ClassDef) and not is_twin:
                found.setdefault(node.name, set()).add((subject, ""))
            elif kind == "constant" and isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Name) and target.id.strip("_").isupper():
                        value = (subject, ast.unparse(node.value))
                        found.setdefault(target.id, set()).add(value)
    return found


def test_a_name_means_one_class():
    assert {name: where for name, where in defined_names("class").items() if len(where) > 1} == {}


def test_a_constant_has_one_value():
    several = {}
    for name, where in defined_names("constant").items():
        values = {value for _, value in where}
        if len(values) > 1 and not name.startswith("_") and name not in OF_A_BACKEND:
            several[name] = where
    assert several == {}
