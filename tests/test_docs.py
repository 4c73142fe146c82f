"""Documents keep their word: links lead somewhere, commands parse, and Python runs as it is printed."""

import ast
import re
from pathlib import Path

import pytest
from helpers import blocks_of, commands_of

from hsn_v1.__main__ import build_parser
from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.errors import InputError
from hsn_v1.io import keras_json, locks, sandbox, weights
from hsn_v1.io.keras_layers import LAYERS
from hsn_v1.labels import PLAUSIBLE_MPP
from hsn_v1.slide_io.formats import SLIDE_ENDINGS
from hsn_v1.slides.plan import FEW_TILES, FINEST, MAPS
from hsn_v1.slides.tissue import GLASS, GLASS_MARGIN, REDUCTION, TILE_TISSUE

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "data" / "README.md"])
NAMES = [page.relative_to(REPOSITORY).as_posix() for page in PAGES]


def text_of(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def anchors(name):
    """Return the addresses of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text_of(name), flags=re.M | re.S), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def links(name):
    """Return a document's links to files of this repository: path and anchor."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
    for target in targets:
        if not re.match(r"https?:", target):
            path, _, anchor = target.partition("#")
            file = (REPOSITORY / name).parent / path if path else REPOSITORY / name
            yield file.resolve().relative_to(REPOSITORY).as_posix(), anchor


def test_the_readme_is_at_most_150_lines():
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    wrong = []
    for target, anchor in links(name):
        exists = (REPOSITORY / target).exists()
        if not exists:
            wrong.append(target)
        if exists and anchor and anchor not in anchors(target):
            wrong.append(f"{target}#{anchor}")
    assert wrong == []


def test_documents_and_sections_that_the_code_cites_are_there():
    cited = set()
    for path in [*(REPOSITORY / "hsn_v1").rglob("*.py"), *(REPOSITORY / "hsn_v1").rglob("*.toml")]:
        text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
        cited |= set(re.findall(r"(docs/\w+\.md)(?:, \"([^\"]+)\")?", text))
        cited |= {("docs/method.md", f"Stage {stage}") for stage in re.findall(r"docs/method\.md[^)]*stage (\d)", text)}
    sections = {name: re.findall(r"^#+ (.+)$", text_of(name), re.MULTILINE) for name in NAMES}
    wrong = {
        (name, section)
        for name, section in cited
        if not any(title.startswith(section) for title in sections.get(name, []))
    }
    assert wrong == set()
    assert ("docs/method.md", "Stage 4") in cited


def test_the_readme_s_tree_names_what_is_there():
    (tree,) = re.findall(r"^```\n(hsn_v1/.*?)^```$", text_of("README.md"), re.MULTILINE | re.DOTALL)
    package = REPOSITORY / "hsn_v1"
    for line in tree.splitlines():
        words = re.findall(r"[\w./*]+", line)
        folder = package if line.startswith("  ") else REPOSITORY
        first = words[0]
        assert list(folder.glob(first.rstrip("/"))), line
        inside = folder / first if (folder / first).is_dir() else package
        for word in words[1:]:
            if re.fullmatch(r"\w+\.(py|toml)|templates/", word):
                assert (inside / word).exists(), line
    folders = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    first = re.findall(r"^  ((?:\w+/ )+)", tree, re.MULTILINE)
    assert folders == {word.rstrip("/") for words in first for word in words.split()}


@pytest.mark.parametrize("name", NAMES)
def test_commands_parse(name, tmp_path, monkeypatch):
    (tmp_path / "DIR").mkdir()  # as the documents call any folder
    monkeypatch.chdir(tmp_path)
    parser = build_parser()
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    for words in commands_of(REPOSITORY / name):
        program, *arguments = words
        if program == "hsn-v1" or words[1:3] == ["-m", "hsn_v1"]:
            parsed = parser.parse_args(arguments if program == "hsn-v1" else words[3:])  # exits where it cannot
            assert getattr(parsed, "maps", MAPS[0]) in MAPS
            if training := getattr(parsed, "train_options", None):
                parser.parse_args(["train", "--name", "n", *training])
        elif program == "make":
            assert {word for word in arguments if "=" not in word} <= targets, words
        elif Path(program).name == "python" and arguments[0] != "-m":
            assert (REPOSITORY / arguments[0]).is_file(), words


def test_a_command_that_does_not_parse_would_be_found():
    with pytest.raises(InputError, match="--no-such-option"):
        build_parser().parse_args(["segment", "a.png", "--no-such-option"])


@pytest.mark.parametrize("name", NAMES)
def test_python_is_python(name):
    for block in blocks_of(REPOSITORY / name, "python"):
        ast.parse(block)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/outputs.md"])
def test_python_runs_as_it_is_printed(name, tmp_path, monkeypatch, capsys, in_process):
    """In a folder with the repository's data and three images, so that what it writes lands there."""
    for folder in ("data", "gt"):
        (tmp_path / folder).symlink_to(REPOSITORY / folder)
    for number in (13, 14, 15):
        path = Path("img/01_phantom_patch") / f"phantom_{number:06}.png"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).symlink_to(REPOSITORY / path)
    monkeypatch.chdir(tmp_path)
    printed = blocks_of(REPOSITORY / name, "python")
    assert printed
    for block in printed:
        exec(compile(block, name, "exec"), {"__name__": "__main__"})
    if name == "README.md":
        counts = ast.literal_eval(capsys.readouterr().out)
        assert sum(counts.values()) == 224 * 224
        assert len(counts) > 2
    else:
        assert len(list((tmp_path / "out/01_phantom_patch/morph/patch").glob("*.png"))) == 3


def test_the_limits_and_layers_that_the_document_on_security_names_are_the_code_s():
    text = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")
    limits = {
        f"processor time ({sandbox.SECONDS:.0f} s, and 1 s for each 20 MB)",
        f"memory ({sandbox.MEMORY >> 30} GB",
        f"more than {weights.MOST_VALUES // 10**6} million values, or {weights.MOST_PACKED} for each byte",
        f"above {keras_json.MOST_LAYERS:,} layers, {keras_json.MOST_WEIGHTS // 10**6} million weights",
        f"more than {keras_json.LONGEST >> 20} MB",
        f"touched every {locks.BEAT:.0f} s",
    }
    words = " ".join(text.split())
    assert {limit for limit in limits if limit not in words} == set()
    listed = words.partition("of other convolutional networks: ")[2].partition(".")[0]
    assert sorted(listed.split(", ")) == sorted(LAYERS)


def test_figures_on_slides_are_those_of_the_code():
    text = " ".join(text_of("docs/slides.md").split())
    low, high = PLAUSIBLE_MPP
    for words in (
        f"below {low:g} or above {high:g}",
        f"up to {FEW_TILES} tiles, and not finer than {FINEST * CLASSIFIER_MPP:.3f} mpp",
        f"at least {GLASS} (mean",
        f"own glass less {GLASS_MARGIN}",
        f"at {REDUCTION} times the classifier's mpp",
        f"less than {TILE_TISSUE:.0%}".replace("%", " %"),
        *(ending for ending in SLIDE_ENDINGS if ending != ".btf"),
    ):
        assert words in text, words
