"""Parse a classifier's class file, ``data/<model>.toml``, into a `Taxonomy` (format: docs/own_classes.md)."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

from .errors import InputError
from .file_names import file_name
from .labels import (
    ADJUSTMENTS,
    BACKGROUND_RULES,
    LARGEST,
    MOST_CLASSES,
    PLAUSIBLE_MPP,
    VARIANTS,
    Colour,
    LabelSet,
    Stain,
    Taxonomy,
    Variant,
)
from .views import SCALE_RANGE, Views

#: Class files of the package, which others may extend.
SHIPPED = ("adp", "adp_ijcv2020", "adp_ijcv2020_vgg16")

#: Allowed counts of numbers in a key, and the words for them in an error.
_Form = tuple[Sequence[int], str]
RGB = (1, 3), "three for R, G and B"
LAB = (3,), "three for L*, a* and b* of CIELAB"
SCALES = range(1, 9), "up to eight"

#: Names of a run's files and folders beside the label sets' folders.
TAKEN = ("index.html", "run.json", "settings.json", "work")


def parse_taxonomy(text: str, source: str) -> Taxonomy:
    """Parse the text of a class file; `source` names the file in errors.

    Raises InputError for an invalid text, naming the key, its value and the expected one.
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{source}: not TOML ({error}); see docs/own_classes.md for an example") from error
    top = _Table(source, "", _extended(content, source))
    variant = VARIANTS[top.one_of("variant", VARIANTS, "iccv2019")]
    outputs, parents = _outputs(top.table("outputs"))
    names = top.table("names", required=False)
    words = {**outputs, **{code: names.text(code) for code in names.content}}
    label_sets: dict[str, LabelSet] = {}
    for name, table in top.tables("label_sets"):
        label_sets[name] = _label_set(name, table, outputs, words, label_sets, variant)
    groups = {name: (label_set,) for name, label_set in label_sets.items()}
    group_table = top.table("groups", required=False)
    for name in group_table.content:
        groups[name] = tuple(label_sets[member] for member in group_table.codes(name, label_sets, "label set"))
    stain = top.table("stain", required=False)
    taxonomy = Taxonomy(
        mpp=top.mpp(),
        mean=top.numbers("mean", -math.inf),
        std=top.numbers("std", 0),
        outputs=outputs,
        parents=parents,
        label_sets=label_sets,
        groups=groups,
        caveat=top.text("caveat", ""),
        variant=variant,
        views=_views(top.table("views", required=False)),
        stain=_stain(stain) if "stain" in top.content else None,
    )
    top.nothing_else()
    return taxonomy


def _extended(content: dict[str, Any], source: str) -> dict[str, Any]:
    """Merge a file's content into the shipped file that it extends; its keys, and its label sets' keys, win."""
    name = content.pop("extends", None)
    if name is None:
        return content
    if name not in SHIPPED:
        raise InputError(f"{source}: extends is {_shown(name)}; expected one of {', '.join(SHIPPED)}")
    below = tomllib.loads((files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))
    below = _extended(below, f"{name}.toml")
    label_sets = content.get("label_sets", {})
    if isinstance(label_sets, dict):
        content["label_sets"] = below["label_sets"] | {
            key: below["label_sets"].get(key, {}) | value if isinstance(value, dict) else value
            for key, value in label_sets.items()
        }
    return below | content


def _stain(table: _Table) -> Stain:
    stain = Stain(table.numbers("mean", -math.inf, LAB), table.numbers("std", 0, LAB))
    table.nothing_else()
    return stain


def _views(table: _Table) -> Views:
    stride, flips = table.whole("stride", 1, None), table.flag("flips", False)
    above, below = SCALE_RANGE
    scales, window = table.numbers("scales", above, SCALES, 1, below), table.whole("window", 1, None)
    table.nothing_else()
    return Views(stride, flips, scales, window)


def _outputs(table: _Table) -> tuple[dict[str, str], dict[str, str]]:
    names, parents = {}, {}
    if not table.content:
        raise table.error("", "has no class", 'lines such as TUM = "tumour"')
    for code, value in table.content.items():
        if not code.isprintable() or not code.strip():
            raise table.error(ascii(code), "cannot be printed", "letters, digits or signs")
        if isinstance(value, dict):
            entry = table.table(code)
            names[code], parent = entry.text("name"), entry.text("parent", code)
            entry.nothing_else()
            if parent == code or parent not in table.content:
                raise entry.error("parent", f"is {parent!r}", f"another one of the outputs: {', '.join(table.content)}")
            parents[code] = parent
        else:
            names[code] = table.text(code)
    for code in names:
        seen, above = {code}, parents.get(code)
        while above:
            if above in seen:
                raise table.error(code, "is its own ancestor", "parents that lead to a root")
            seen.add(above)
            above = parents.get(above)
    return names, _DottedParents(parents)


class _DottedParents(dict):
    """Parents by code, taken from a code's dots if none is named: E.M.S is a kind of E.M, even if that is no output."""

    def get(self, code: str, default: str | None = None) -> str | None:
        """Return the parent of a code."""
        return super().get(code) or code.rpartition(".")[0] or default


def _label_set(
    name: str,
    table: _Table,
    outputs: Mapping[str, str],
    names: dict[str, str],
    earlier: Mapping[str, LabelSet],
    variant: Variant,
) -> LabelSet:
    classes, unlabelled = table.table("classes"), table.table("unlabelled", required=False)
    background, other = table.text("background", None), table.text("other", None)
    if not 1 <= len(classes.content) <= MOST_CLASSES:
        raise classes.error("", f"has {len(classes.content)} classes", f"1 to {MOST_CLASSES}")
    for code in classes.content:
        if code not in outputs and code not in (background, other):
            raise classes.error(code, "is no output of the classifier", "an output, or the background or other class")
    lender = table.one_of("lender", earlier, None)
    colours = {code: classes.colour(code) for code in classes.content}
    objects, split = _objects(table, colours)
    none = {code: unlabelled.colour_or_index(code, len(colours)) for code in unlabelled.content}
    _check_distinct(classes, {**none, **colours})
    label_set = LabelSet(
        name=name,
        colours=colours,
        outputs_of={code: i for i, code in enumerate(outputs) if code in colours and code not in (background, other)},
        names={code: names[code] for code in (*colours, *none) if code in names},
        unlabelled=none,
        background=table.one_of("background", colours, None),
        background_rule=table.one_of("background_rule", BACKGROUND_RULES, BACKGROUND_RULES[0]),
        bright=table.codes("bright", colours),
        other=table.one_of("other", colours, None),
        lender=earlier[lender] if lender else None,
        borrowed=table.codes("borrowed", earlier[lender].colours if lender else ()),
        always_present=table.codes("always_present", [code for code in colours if code in outputs]),
        set_aside=table.codes("set_aside", colours),
        confidence_images=table.flag("confidence_images", True),
        objects=objects,
        split_objects=split,
        true_objects=table.text("true_objects", None),
        variant=replace(variant, adjustment=table.one_of("adjustment", ADJUSTMENTS, variant.adjustment)),
    )
    table.nothing_else()
    return label_set


def _objects(table: _Table, colours: Mapping[str, Colour]) -> tuple[str | None, int | None]:
    """Return the class of the objects, and the least distance between the middles of touching ones that are cut."""
    if not isinstance(table.content.get("objects"), dict):
        return table.one_of("objects", colours, None), None
    entry = table.table("objects")
    objects = entry.one_of("class", colours, ...), entry.whole("split", 2)
    entry.nothing_else()
    return objects


def _check_distinct(table: _Table, colours: Mapping[str, Colour | int]) -> None:
    owner: dict[Colour | int, str] = {}
    for code, colour in colours.items():
        if owner.setdefault(colour, code) != code:
            raise table.error(code, f"has {_shown(colour)}, which {owner[colour]} has", "a value of its own")


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


@dataclass(frozen=True)
class _Table:
    """A table of the file. It checks each key that is read; `nothing_else` then refuses the keys not read."""

    source: str
    place: str
    content: Mapping[str, Any]
    asked: dict[str, None] = field(default_factory=dict)

    def error(self, key: str, found: str, expected: str) -> InputError:
        place = ".".join(part for part in (self.place, f'"{key}"' if "." in key else key) if part)
        return InputError(f"{self.source}: {place} {found}; expected {expected}")

    def _get(self, key: str, test: Any, expected: str, default: Any = ...) -> Any:
        self.asked[key] = None
        if key not in self.content:
            if default is ...:
                raise self.error(key, "is missing", expected)
            return default
        value = self.content[key]
        if not test(value):
            raise self.error(key, f"is {_shown(value)}", expected)
        return value

    def table(self, key: str, required: bool = True) -> _Table:
        content = self._get(key, lambda v: isinstance(v, dict), "a table", ... if required else {})
        return _Table(self.source, f"{self.place}.{key}".lstrip("."), content)

    def tables(self, key: str) -> list[tuple[str, _Table]]:
        parent = self.table(key)
        if not parent.content:
            raise parent.error("", "has no label set", f"at least one, such as [{parent.place}.tissue]")
        for name in parent.content:
            if file_name(name, tuple(parent.content)) != name or name.casefold() in TAKEN:
                raise parent.error(ascii(name), "names folders and files", "letters and digits, a name of its own")
        return [(name, parent.table(name)) for name in parent.content]

    def text(self, key: str, default: Any = ...) -> str:
        return self._get(key, lambda v: isinstance(v, str) and v.strip(), "words in quotes", default)

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, lambda v: isinstance(v, bool), "true or false", default)

    def whole(self, key: str, least: int, default: Any = ...) -> int:
        expected = f"a whole number from {least} to {LARGEST:,}"
        return self._get(key, lambda v: type(v) is int and least <= v <= LARGEST, expected, default)

    def mpp(self) -> float:
        low, high = PLAUSIBLE_MPP
        expected = f"microns per pixel from {low:g} to {high:g}"
        return float(self._get("mpp", lambda v: _is_number(v, 0) and low <= v <= high, expected))

    def numbers(
        self, key: str, above: float, form: _Form = RGB, default: Any = ..., below: float = math.inf
    ) -> tuple[float, ...]:
        def test(value: Any) -> bool:
            values = _listed(value)
            return len(values) in form[0] and all(_is_number(each, above, below) for each in values)

        least, most = f" above {above:g}" if above >= 0 else "", f", below {below:g}" if below < math.inf else ""
        expected = f"a number{least}{most}, or {form[1]}"
        return tuple(map(float, _listed(self._get(key, test, expected, default))))

    def codes(self, key: str, among: Iterable[str], what: str = "class") -> tuple[str, ...]:
        among = tuple(among)
        values = self._get(key, lambda v: isinstance(v, list), f"a list of {what} names", [])
        for value in values:
            if value not in among:
                raise self.error(key, f"has {value!r}", f"a {what} out of {', '.join(among) or 'none'}")
        return tuple(values)

    def one_of(self, key: str, among: Iterable[str], default: Any) -> str | None:
        return self._get(key, tuple(among).__contains__, f"one of {', '.join(among)}", default)

    def colour(self, key: str) -> Colour:
        return tuple(self._get(key, _is_colour, "a colour as [red, green, blue], each 0 to 255"))

    def colour_or_index(self, key: str, classes: int) -> Colour | int:
        if type(value := self.content[key]) is int and classes <= value <= 255:
            return value
        expected = f"a colour as [red, green, blue], each 0 to 255, or an index from {classes} to 255"
        return tuple(self._get(key, _is_colour, expected))

    def nothing_else(self) -> None:
        for key in self.content:
            if key not in self.asked:
                raise self.error(key, "is unknown", f"one of {', '.join(self.asked)}")


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _is_number(value: Any, above: float, below: float = math.inf) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and above < value < below


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
