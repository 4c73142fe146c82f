"""The commands of docs/slides.md are ones that the parser takes, and what it says of the code is so."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from hsn_v1.adp import CLASSIFIER_MPP
from hsn_v1.commands.segment import add_command
from hsn_v1.slide_io.formats import SLIDE_ENDINGS
from hsn_v1.slide_io.scale import PLAUSIBLE_MPP
from hsn_v1.slides.plan import FEW_TILES, FINEST, MAPS
from hsn_v1.slides.tissue import GLASS, GLASS_MARGIN, REDUCTION, TILE_TISSUE

TEXT = (Path(__file__).parents[1] / "docs" / "slides.md").read_text("utf-8")
COMMANDS = re.findall("^hsn-v1 (.*)", TEXT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_takes_the_commands(command):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_command(parser.add_subparsers())
    arguments = parser.parse_args(shlex.split(command, comments=True))
    assert arguments.inputs and arguments.maps in MAPS


def test_there_are_commands():
    assert len(COMMANDS) >= 3


def test_figures_are_those_of_the_code():
    flat = " ".join(TEXT.split())
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
        assert words in flat, words
