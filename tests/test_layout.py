"""Where things lie: a newcomer names the file at once."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "service"
MOST_NAMES_AT_THE_TOP = 13
IN_EVERY_PACKAGE = ("__init__.py", "__main__.py")


def test_no_two_modules_share_a_name() -> None:
    names = Counter(path.name for path in SERVICE.rglob("*.py") if path.name not in IN_EVERY_PACKAGE)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_classes_share_a_name() -> None:
    """But for those that a module keeps to itself."""
    found = Counter(
        node.name
        for path in SERVICE.rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, count in found.items() if count > 1} == set()


def test_no_module_shares_its_name_with_a_package_elsewhere() -> None:
    packages = {path.parent: path.parent.name for path in SERVICE.rglob("__init__.py")}
    modules = [path for path in SERVICE.rglob("*.py") if path.name not in IN_EVERY_PACKAGE]
    shared = [
        path.relative_to(SERVICE)
        for path in modules
        for package, name in packages.items()
        if path.stem == name and path.parent != package
    ]
    assert shared == []


def test_the_top_of_service_has_few_names() -> None:
    names = {path.stem for path in SERVICE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert len(names - {"__init__"}) <= MOST_NAMES_AT_THE_TOP


def test_the_tests_mirror_the_packages() -> None:
    packages = {path.parent.name for path in SERVICE.glob("*/__init__.py")}
    assert packages <= {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
