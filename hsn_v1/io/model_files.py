"""Find a classifier's files by its name, and read its classes and CRF settings."""

from __future__ import annotations

from pathlib import Path

from ..adp import ADP
from ..class_file import parse_taxonomy
from ..densecrf import CRF
from ..errors import InputError
from ..file_names import file_name
from ..labels import LabelSet, Taxonomy
from .reading import is_there, read_bytes, read_text
from .tree import CARD
from .writing import write_bytes, write_together

ENDINGS = (".json", ".h5", ".mat", ".toml", ".keras")  #: endings of a classifier's files

#: Folder of the classifiers that come with this package: the repository's `data`, or one in the installed package.
PACKAGE = Path(__file__).parents[1]
SHIPPED = PACKAGE / "models" if (PACKAGE / "models").is_dir() else PACKAGE.parent / "data"

LONGEST_CLASS_FILE = 1 << 20  #: greatest size of a class file, in bytes


def find_model(root: Path, name: str) -> Path:
    """Return the folder of a classifier's files: ``<root>/data``, or that of the shipped classifiers."""
    folder = Path(root) / "data"
    in_root = any(is_there(model_file(folder, name, ending)) for ending in ENDINGS)
    return SHIPPED if not in_root and is_there(model_file(SHIPPED, name, ".h5")) else folder


def named_model(model: Path | str) -> tuple[Path, str]:
    """Return the folder and the name of a classifier, given its name (in ``data`` here, or shipped) or a path.

    The path is that of its files, with or without an ending, such as ``data/mine.h5``.
    """
    path = Path(model)
    name = path.stem if path.suffix in ENDINGS else path.name
    return (find_model(Path(), name) if path.parent == Path() else path.parent), name


def model_file(folder: Path, name: str, ending: str) -> Path:
    """Return the path of a classifier's file, given the classifier's name (any text) or the `file_name` of it."""
    path, safe = Path(folder) / f"{name}{ending}", file_name(name)
    outside = ".." in Path(name).parts or Path(name).is_absolute()
    return path if safe == name or (not outside and is_there(path)) else Path(folder) / f"{safe}{ending}"


def model_card_of(folder: Path, name: str) -> Path | None:
    """Return the path of a classifier's card, or None if it has no card."""
    path = model_file(folder, name, ".md")
    return path if is_there(path) else None


def copy_card(card: Path | None, folder: Path) -> str:
    """Copy a classifier's card, if there is one, into a results folder; return the copy's name, or ""."""
    if not card:
        return ""
    write_bytes(folder / CARD, read_bytes(card))
    return CARD


def model_files(folder: Path, name: str) -> dict[str, Path]:
    """Return a classifier's files by their endings, or raise InputError if one is missing."""
    files = {ending: model_file(folder, name, ending) for ending in (".json", ".h5", ".mat")}
    whole = model_file(folder, name, ".keras")
    if not is_there(files[".json"]) and is_there(whole):
        files |= {".json": whole, ".h5": whole}
    for path in files.values():
        if not is_there(path):
            missing = f"{path}: no such file" if is_there(folder) else f"{folder}: no such folder; expected {path.name}"
            models = ", ".join(sorted({*_models_in(folder), *_models_in(SHIPPED)})) or "none"
            raise InputError(f"{missing}; put it there, or choose one of: {models}")
    return files


def _models_in(folder: Path) -> list[str]:
    files = [*folder.glob("*.json"), *folder.glob("*.keras")]
    return [path.stem for path in files if path.with_suffix(".mat").exists()]


def taxonomy_of(root: Path, name: str) -> Taxonomy:
    """Return the classes of a classifier in a root, or of a shipped one; raise InputError if it has no files."""
    folder = find_model(root, name)
    if not any(is_there(model_file(folder, name, ending)) for ending in ENDINGS):
        model_files(folder, name)
    return read_taxonomy(folder, name)


def read_taxonomy(folder: Path, name: str) -> Taxonomy:
    """Return a classifier's classes, from ``<name>.toml``, or ADP's if there is no such file, as published."""
    path = model_file(folder, name, ".toml")
    return read_class_file(path) if is_there(path) else ADP


def read_class_file(path: Path | str) -> Taxonomy:
    """Read a class file, whose format docs/own_classes.md explains, or raise InputError."""
    return parse_taxonomy(read_text(Path(path), LONGEST_CLASS_FILE), str(path))


def read_crfs(folder: Path, name: str, label_sets: tuple[LabelSet, ...]) -> tuple[dict[str, CRF], tuple[str, ...]]:
    """Return the CRF of each label set by its name, and notes for the user.

    Settings are read from the file that `find_crf` returns. Without one, the default settings are used, and a note
    says so.
    """
    crfs, notes = {}, []
    for label_set in label_sets:
        file = find_crf(folder, name, label_set)
        crfs[label_set.name] = CRF.from_file(file, label_set.variant.file_iterations) if file else CRF()
        if not file:
            path = model_file(folder, name, f"_{crf_name(label_set)}")
            notes.append(f"{path}: no such file, which tuning the CRF writes; its default settings are used")
    return crfs, tuple(notes)


def find_crf(folder: Path, name: str, label_set: LabelSet) -> Path | None:
    """Return the file of a label set's CRF settings, tuned for a classifier or, without these, published; or None."""
    tuned = model_file(folder, name, f"_{crf_name(label_set)}")
    return next((path for path in (tuned, folder / crf_name(label_set)) if is_there(path)), None)


def crf_name(label_set: LabelSet) -> str:
    """Return the name of a label set's published file of CRF settings."""
    return f"{label_set.name}_optimal_pcc.npy"


def copy_model(source: Path, name: str, folder: Path) -> None:
    """Copy a classifier's files, with the CRFs tuned for it, to another folder: all of them, or none."""
    crfs = (f"_{crf_name(label_set)}" for label_set in read_taxonomy(source, name).label_sets.values())
    files = (model_file(source, name, ending) for ending in (*ENDINGS, ".md", *crfs))
    write_together({folder / path.name: path.read_bytes() for path in files if is_there(path)})


def load_crfs(model: Path | str) -> dict[str, CRF]:
    """Return the CRF of each label set of a classifier by the label set's name: tuned, published, or the default.

    Parameters
    ----------
    model : Path or str
        Name or path; see `load_histonet`.

    Raises
    ------
    InputError
        If there is no such classifier, or one of its files is invalid.

    Examples
    --------
    >>> load_crfs("histonet_X1.7_phantom")["morph"].iterations
    5
    """
    folder, name = named_model(model)
    model_files(folder, name)
    return read_crfs(folder, name, tuple(read_taxonomy(folder, name).label_sets.values()))[0]
