"""Rules for the repository: two commands, exact versions, nothing that depends on one machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from project import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
LOCK = (ROOT / "requirements.lock").read_text("utf-8")


def files() -> list[Path]:
    """Return the files of the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> set[str]:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {canonical(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for lines in lists for line in lines}
    return names - {"headrace"}


def pins() -> list[str]:
    return [line for line in LOCK.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_the_commands_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z][a-z-]*[a-z])", "\n".join(code_of(readme))))
    assert {"demo", "test"} <= named
    assert named <= targets


def code_of(markdown: str) -> list[str]:
    """Return the code blocks and code spans of a page."""
    return re.findall(r"```.*?```|`[^`\n]+`", markdown, re.DOTALL)


def test_every_compiled_module_is_built_and_described() -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in files() if path.suffix == ".pyx"}
    built = {m["name"]: m["sources"][0] for m in PYPROJECT["tool"]["setuptools"]["ext-modules"]}
    cython = PYPROJECT["tool"]["distutils"]["build_ext"]["shared_utility_qualified_name"]
    assert built.pop(cython) == f"src/{cython.replace('.', '/')}.c"
    assert set(built.values()) == {f"src/headrace/{source}" for source in sources}
    assert all(f"src/{name.replace('.', '/')}.pyx" == source for name, source in built.items())
    guide = (ROOT / "docs" / "contributor.md").read_text("utf-8")
    assert {source for source in sources if f"`{source}`" not in guide} == set()


def test_every_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z-]+):(.*)$", makefile, re.MULTILINE)
    assert [name for name, rest in targets if "## " not in rest] == []
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == {name for name, _ in targets}


def test_the_benchmarks_are_targets_and_are_listed() -> None:
    benches = {f"bench-{p.stem.removeprefix('bench_')}" for p in (ROOT / "bench").glob("bench_*.py")}
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert benches == set(re.findall(r"make (bench-\w+)", listed)) != set()
    for name in benches:
        dry = ["make", "--dry-run", "--old-file", ".venv/.ready", name, "CLICKS=README.md"]
        script = f"bench/{name.replace('-', '_')}.py"
        assert script in subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("clicks", ["", "no-such-file"])
def test_a_replay_benchmark_without_clicks_says_what_it_wants(clicks: str) -> None:
    command = ["make", "--old-file", ".venv/.ready", "bench-replay", f"CLICKS={clicks}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (clicks or "CLICKS=path") in done.stderr.splitlines()[0]


def test_every_version_is_exact() -> None:
    assert len(pins()) > 40
    for line in pins():
        assert re.match(r"[a-z0-9-]+==[\w.]+( ; .+)?$", line), line


def test_every_dependency_is_locked() -> None:
    assert required() - {line.split("==")[0] for line in pins()} == set()


def test_nothing_belongs_to_one_machine() -> None:
    # Written in two parts, so that this file does not find itself.
    hosts = ["pypi" + r"\.org", "pythonhosted" + r"\.org", r"repo1?\.maven" + r"\.", "npmjs" + r"\.(org|com)"]
    hosts += ["deb" + r"\.debian\.org", "index" + "-url"]
    places = ["/" + "work/", "/" + "root/", "/" + "Users/", r"/" + r"home/(?!headrace\b)\w+/"]
    pattern = re.compile("|".join(hosts + places))
    found = []
    for path in files():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert found == []


def test_nothing_is_pickled() -> None:
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    found = []
    for path in files():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                names = (
                    [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["pickle"]
                )
            found += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in banned]
    assert found == []


def test_the_command_line_is_installed_as_headrace() -> None:
    assert list(PROJECT["scripts"]) == ["headrace"]
    assert PROJECT["requires-python"] == ">=3.11"


ROOMS = ("streams", "models", "serving", "agents", "console", "demo", "oracle")


def test_rooms_are_imported_from_the_package() -> None:
    """At the top of the checkout a room can be imported by its bare name: it would be loaded twice."""
    found = []
    for path in files():
        if path.suffix == ".py" and path.parts[len(ROOT.parts)] != "src":
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
                    names = [ast.unparse(node.args[0]).strip("f'\"")]
                found += [f"{path.relative_to(ROOT)}: {n}" for n in names if n.split(".")[0] in ROOMS]
    assert found == []
