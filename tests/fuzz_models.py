"""Change a small model's files at random, load each in a process of its own, and count what comes of it.

Run in the repository's root: ``python tests/fuzz_models.py [--changes 100] [--kind .json ...]``. The seeds are fixed.
A file is read, or refused in one line; tracebacks, crashes and hangs are what must not be.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from helpers import class_file_of_kind, write_published

from hsn_v1.densecrf import CRF
from hsn_v1.errors import InputError
from hsn_v1.io.models import load_histonet
from hsn_v1.keras_start import import_keras

GOOD = ("read", "refused")
SECONDS = 120  #: a hang; of the clock, so leave the machine some room
KINDS = (".json", "bytes of .json", ".h5", ".mat", ".toml", ".npy")
ODD = (
    *(None, True, -1, 0, 1, 2.5, 1 << 40, 10**300, float("nan"), float("inf"), "", "x" * 1000, "a\n\udcff", [], {}),
    *([None], [[]], [-1, 0], [1 << 20] * 4, {"class_name": "Lambda", "config": {}}, "Lambda", "relu", "channels_first"),
)


def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes of which a few were changed or, now and then, some cut out or repeated."""
    found = bytearray(content)
    used = np.flatnonzero(np.frombuffer(content, np.uint8))  # most others are padding
    for _ in range(rng.integers(1, 6)):
        at = int(rng.choice(used))
        found[at] = rng.choice([0x00, 0xFF, 0x7F, 0x80, rng.integers(256)])
    if rng.random() < 0.1:
        del found[at : at + int(rng.integers(1, 1 + len(found) // 4))]
    elif rng.random() < 0.1:
        found[at:at] = found[at // 2 : at]
    return bytes(found)


def changed_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Return JSON of which some values were exchanged for odd ones, removed, moved or repeated."""
    tree = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        places = [
            (node, key) for node in _nodes(tree) for key in (node if isinstance(node, dict) else range(len(node)))
        ]
        node, key = places[rng.integers(len(places))]
        choice = rng.random()
        if choice < 0.6:
            node[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
        elif choice < 0.7:
            del node[key]
        elif choice < 0.85 and isinstance(node, list):
            node.insert(int(rng.integers(len(node) + 1)), copy.deepcopy(node[key]))
        else:
            other, place = places[rng.integers(len(places))]
            node[key] = copy.deepcopy(other[place])
    return json.dumps(tree).encode()


def _nodes(tree: object) -> list:
    if not isinstance(tree, (dict, list)):
        return []
    inner = tree.values() if isinstance(tree, dict) else tree
    return [tree] * bool(tree) + [node for each in inner for node in _nodes(each)]


def toy_files(folder: Path) -> None:
    """Write a small model of two classes in all its files, with CRF settings."""
    layers = (keras := import_keras()).layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, padding="same", name="conv2d_1"),
            layers.Activation("relu", name="activation_1"),
            layers.BatchNormalization(name="batch_normalization_1"),
            layers.MaxPooling2D(16, name="max_pooling2d_1"),
            layers.Flatten(name="flatten_1"),
            layers.Dense(2, name="dense_1"),
            layers.Activation("sigmoid", name="activation_2"),
        ]
    )
    write_published(folder, "toy", model, np.full(2, 0.5))
    (folder / "toy.toml").write_text(class_file_of_kind("background and other"))
    np.save(folder / "toy.npy", [[3, 40, 10, 4, 25, 5]])


def change(folder: Path, kind: str, seed: int) -> None:
    """Change a file of the toy model."""
    path, rng = folder / f"toy{kind.rpartition(' ')[2]}", np.random.default_rng(seed)
    path.write_bytes((changed_json if kind == ".json" else changed_bytes)(path.read_bytes(), rng))


def load(folder: Path) -> str:
    """Load a model and its CRF settings, and return what came of it."""
    try:
        load_histonet(folder, "toy")
        CRF.from_file(folder / "toy.npy")
    except InputError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 1000 else "more than a line"
    return "read"


def outcome_of(folder: Path) -> str:
    """Return what came of loading in a process of its own: what `load` says, a traceback, a crash or a hang."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        try:
            outcome = load(folder)
        except BaseException as error:
            outcome = f"traceback {type(error).__name__}"
        os.write(send, outcome.encode())
        os._exit(0)
    os.close(send)
    _, status = os.waitpid(child, 0)
    with os.fdopen(receive) as pipe:
        outcome = pipe.read()
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) == signal.SIGALRM else f"crash {os.WTERMSIG(status)}"
    return outcome


def bad_outcomes(kind: str, changes: int, attempt: Callable[[int], str]) -> int:
    """Print how many attempts, each of a seed, came to what; return how many came to what must not be."""
    outcomes = [attempt(seed) for seed in range(changes)]
    bad = [(seed, outcome) for seed, outcome in enumerate(outcomes) if outcome.partition(",")[0] not in GOOD]
    for seed, outcome in bad:
        print(f"{kind}, seed {seed}: {outcome}", file=sys.stderr)
    print(f"{kind}: {', '.join(f'{count} {name}' for name, count in sorted(Counter(outcomes).items()))}", flush=True)
    return len(bad)


def main() -> int:
    """Print how many changed files came to what, and return 1 if one of them came to what must not be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--changes", type=int, default=100, help="of each kind of file (default: 100)")
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=KINDS)
    arguments = parser.parse_args()
    import_keras()
    with tempfile.TemporaryDirectory() as folder:
        pristine = Path(folder) / "pristine"
        if not (child := os.fork()):  # TensorFlow must not be at work before the forks to come
            toy_files(pristine)
            os._exit(0)
        os.waitpid(child, 0)
        before = {path: path.read_bytes() for path in pristine.iterdir()}
        if (outcome := outcome_of(pristine)) != "read":
            raise SystemExit(f"the unchanged model is not read: {outcome}")

        def attempt(kind: str, seed: int) -> str:
            for path, content in before.items():
                path.write_bytes(content)
            change(pristine, kind, seed)
            return outcome_of(pristine)

        bad = [bad_outcomes(kind, arguments.changes, partial(attempt, kind)) for kind in arguments.kind]
    return int(any(bad))


if __name__ == "__main__":
    sys.exit(main())
