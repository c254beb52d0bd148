"""What the pages say of the code is so: files, modules, names, layers and links that they name are there."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MAP = DOCS / "architecture.md"
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", ROOT / "client" / "README.md", *sorted(DOCS.rglob("*.md"))]
DEPLOY = ("deploy/rollout", "deploy/remote", "deploy/tasks", "deploy/templates", "deploy/stages", "deploy/steward")
OF_THE_PROJECT = ("service", "client", "tests", "conf", "docs", "bench", *DEPLOY, "deploy", ".")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|lua|ini|json|toml|js|conf|md)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text()


def files_named(text: str) -> set[str]:
    return {code for code in CODE.findall(FENCE.sub("", text)) if FILE.fullmatch(code)}


def file_names() -> set[str]:
    """The name of every file of the project."""
    names = {path.name for path in ROOT.iterdir()}
    names |= {path.name for path in (ROOT / "deploy").iterdir()}
    return names | {path.name for folder in OF_THE_PROJECT[:-2] for path in (ROOT / folder).rglob("*")}


def sections(heading: str) -> dict[str, str]:
    """The map's sections below headings of this level, by title."""
    pieces = re.split(rf"^{heading} (.*)$", text_of(MAP), flags=re.MULTILINE)
    return {
        title: re.split(r"^##? ", body, flags=re.MULTILINE)[0]
        for title, body in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def packages() -> list[Path]:
    return sorted(path.parent for path in (ROOT / "service").glob("*/__init__.py"))


def layer_contracts() -> list[dict[str, list[str]]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [contract for contract in contracts if contract["type"] == "layers"]


# --- every page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    """With a folder it is a path from the root; a bare name is that of some file of the project."""
    names = file_names()
    missing = [
        file for file in files_named(text_of(page)) if not (exists(page, file) if "/" in file else file in names)
    ]
    assert missing == []


def exists(page: Path, file: str) -> bool:
    """In the map, a path may also begin in a package."""
    return (ROOT / file).exists() or (page == MAP and any((package / file).exists() for package in packages()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(text_of(page)) if "://" not in link and not leads_somewhere(page, link)]
    assert broken == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- the map -----------------------------------------------------------------------------------------


def test_the_map_has_a_section_for_each_package() -> None:
    wanted = {f"service/{package.name}/" for package in packages()}
    assert wanted <= sections("###").keys()


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.name)
def test_the_map_says_what_each_module_is_for(package: Path) -> None:
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert described(f"service/{package.name}/") == modules


def test_the_map_says_what_each_module_at_the_top_is_for() -> None:
    assert described("service/") == {path.name for path in (ROOT / "service").glob("*.py")}


def test_the_map_says_what_each_module_of_the_client_is_for() -> None:
    modules = {path.name for path in (ROOT / "client").rglob("*.py") if "build" not in path.parts}
    assert described("client/") == modules


def described(title: str) -> set[str]:
    """The modules in the first column of a section's table."""
    return {CODE.findall(row[0])[0] for row in rows(sections("###")[title]) if "`" in row[0]}


def test_the_map_shows_the_layers_that_the_linter_checks() -> None:
    for contract in layer_contracts():
        [container] = contract["containers"]
        layers = contract["layers"]
        if container == "service":
            assert "\n".join(["```", *layers, "```"]) in sections("##")["The layers"]
        else:
            package = container.removeprefix("service.")
            home = "client/" if package == "sandbox_client" else f"service/{package.partition('.')[0]}/"
            section = sections("###")[home]
            inside = f"Inside `{package.partition('.')[2]}`" if "." in package else "Inside"
            assert f"{inside}: " + " → ".join(f"`{layer}`" for layer in layers) in " ".join(section.split())


def changes() -> list[list[str]]:
    found = list(rows("\n".join(body for title, body in sections("###").items() if title.startswith("… "))))
    return [row for row in found if row[0] != "I want to change …"]


def test_the_map_has_a_place_for_many_changes() -> None:
    assert len(changes()) >= 20


@pytest.mark.parametrize("change", changes(), ids=lambda change: change[0])
def test_what_a_change_has_to_look_for_stands_in_its_file(change: list[str]) -> None:
    _, file, hint = change
    files = [*CODE.findall(file), *[code for code in CODE.findall(hint) if "/" in code]]
    assert files
    code = "\n".join((ROOT / name).read_text() for name in files)
    missing = [name for name in CODE.findall(hint) if "/" not in name and not is_defined(name, code)]
    assert missing == []


def is_defined(name: str, code: str) -> bool:
    """A function, a class, a constant, an attribute or an option."""
    return re.search(rf"(?:def|class) {name}\b|^\s*(?:self\.)?{name}\b\s*[:=]", code, re.MULTILINE) is not None
