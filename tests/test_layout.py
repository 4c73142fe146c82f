"""The house: which folder may import which, how long modules and functions may be, and what loads with what."""

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from hsn_v1.__main__ import COMMANDS
from hsn_v1.commands.common import OFFICIAL_MODEL, PHANTOM_GLAND_MODEL, PHANTOM_MODEL

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "hsn_v1"
MODULES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

#: What each folder may import besides itself and `errors`; "" is the method, at the top of the package.
METHOD = {"", "densecrf"}
FILES = METHOD | {"io", "slide_io"}
ACTIVITY = FILES | {"show"}
MAY_IMPORT = {
    "densecrf": set(),
    "": METHOD,
    "io": METHOD,
    "slide_io": METHOD | {"io"},
    "show": METHOD,
    "sets": ACTIVITY,
    "slides": ACTIVITY,
    "phantoms": ACTIVITY,
    "training": ACTIVITY,
    "view": ACTIVITY,
    "commands": ACTIVITY | {"sets", "slides", "phantoms", "training", "view"},
}

#: Functions over 40 lines that are kernels: loops which a compiler turns into one piece of machine code.
KERNELS = {"densecrf/meanfield.py:_softmax", "densecrf/permutohedral.py:_embed"}


def dotted(path):
    """Return a file's module name."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Return the modules of this package that a file imports, inside its functions too."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                found.add(name if name in NAMES else module)
    return {name for name in found if name.split(".")[0] == "hsn_v1"}


def room(module):
    """Return the folder of a module; "" is the top. The command line's entry point counts among the commands."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "commands"
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


@cache
def arrows():
    return {(dotted(path), name) for path in MODULES for name in imports(path)}


def test_arrows_between_folders_point_down():
    wrong = {
        (module, name)
        for module, name in arrows()
        if room(name) != room(module)
        and room(name) not in MAY_IMPORT[room(module)]
        and name not in ("hsn_v1", "hsn_v1.errors")
    }
    assert wrong == set()


def test_each_folder_says_what_it_is_for():
    folders = {path.parent for path in MODULES}
    assert {room(dotted(folder / "__init__.py")) for folder in folders} == set(MAY_IMPORT)
    for folder in folders:
        assert ast.get_docstring(tree_of(folder / "__init__.py"))


def code_lines(function, lines):
    """Count the lines of a function's body, without docstring, comments and empty lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    code = lines[body[0].lineno - 1 : function.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in code)


def test_modules_are_at_most_320_lines_and_the_method_is_under_160():
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES
    }
    assert {name: length for name, length in lengths.items() if length > 320} == {}
    assert lengths["hsn_v1.py"] < 160


def test_functions_are_at_most_40_lines_unless_kernels_or_parsers():
    long = {}
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                length = code_lines(node, text.splitlines())
                declares_options = path.parent.name == "commands" and node.name == "add_command"
                if length > 40 and not declares_options:
                    long[f"{path.relative_to(PACKAGE).as_posix()}:{node.name}"] = length
    assert set(long) == KERNELS


def loaded(*code):
    """Return the modules that are loaded after some lines of Python."""
    program = "\n".join([*code, "import sys; print('\\n'.join(sys.modules), file=sys.stderr)"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    return set(done.stderr.splitlines())


def test_help_imports_no_numpy():
    commands = ["", *(module.replace("_", "-") for module in COMMANDS)]
    modules = loaded(
        "import sys, contextlib; from hsn_v1.__main__ import main",
        f"for command in {commands}:",
        "    sys.argv = [argument for argument in ('hsn-v1', command, '--help') if argument]",
        "    with contextlib.suppress(SystemExit): main()",
        "    heavy = {'numpy', 'cv2', 'keras', 'matplotlib'} & set(sys.modules)",
        "    assert not heavy, (command, heavy)",
    )
    assert "hsn_v1.commands.segment" in modules


@pytest.mark.slow
def test_workers_for_slides_load_no_pages_or_figures_and_segment_without_the_dask_engine():
    modules = loaded(
        "import sys, hsn_v1.slides.tiled",
        "unwanted = 'matplotlib', 'jinja2', 'hsn_v1.show', 'hsn_v1.sets'",
        "found = [name for name in sys.modules if name.startswith(unwanted)]",
        "assert not found, found",
        "import hsn_v1.slides.segment_many, hsn_v1.slides.index_page, hsn_v1.commands.segment",
    )
    assert "hsn_v1.slides.segment_slide" in modules
    assert not {name for name in modules if name.startswith(("hsn_v1.slides.cluster", "distributed", "dask"))}


@pytest.mark.slow
def test_the_viewer_and_a_dask_worker_that_joins_load_no_numba_and_no_scipy():
    assert not {"numba", "scipy", "keras"} & loaded("import hsn_v1.view.server, hsn_v1.slides.cluster.dask_engine")


# --- What is installed -----------------------------------------------------------------------------------------------


def test_every_folder_of_the_package_is_installed():
    folders = {".".join(path.parent.relative_to(REPOSITORY).parts) for path in MODULES}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | {"hsn_v1.models"}


def test_every_file_that_is_not_python_is_installed():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc"):
            package = next(folder for folder in path.parents if (folder / "__init__.py").exists())
            wanted = patterns.get(".".join(package.relative_to(REPOSITORY).parts), [])
            assert any(fnmatch.fnmatch(path.relative_to(package).as_posix(), pattern) for pattern in wanted), path


def test_only_the_classifiers_that_may_be_shipped_are_installed():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["hsn_v1.models"]

    def is_installed(name):
        return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    for model in (PHANTOM_MODEL, PHANTOM_GLAND_MODEL, "colon_glands"):
        files = sorted(path.name for path in (REPOSITORY / "data").glob(f"{model}[._]*"))
        assert {Path(file).suffix for file in files} >= {".json", ".h5", ".mat", ".toml", ".npy"}
        assert all(map(is_installed, files))
    others = [f"{OFFICIAL_MODEL}.h5", "morph_optimal_pcc.npy", "histonet_X1.7_phantom_of_mine.h5", "README.md"]
    assert not [name for name in others if is_installed(name)]


def test_requirements_txt_has_what_pyproject_has():
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if line and line[0] != "#") == sorted([*project["dependencies"], *extras])


def test_ci_tries_the_versions_that_are_declared():
    versions = re.findall(r'"(3\.\d+)"', (REPOSITORY / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    declared = [line.split("::")[-1].strip() for line in PROJECT["project"]["classifiers"] if "Python ::" in line]
    assert versions == declared
    assert PROJECT["project"]["requires-python"] == f">={versions[0]}"
