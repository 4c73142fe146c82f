"""Keras starts as published, whatever the user's settings are; or says in a line why it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
OLD = {"floatx": "float16", "epsilon": 0.001, "backend": "theano", "image_data_format": "channels_first"}
START = """
import resource
from hsn_v1.errors import InputError
from hsn_v1.keras_start import import_keras
{before}
try:
    config = import_keras().config
    print(config.backend(), config.floatx(), config.epsilon(), config.image_data_format(), config.max_epochs())
except InputError as error:
    print(error)
"""


def start(home, before="", **environment):
    environment = {**os.environ, "HOME": str(home), "KERAS_HOME": str(home), **environment}
    command = [sys.executable, "-c", START.format(before=before)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_settings_of_the_user_change_nothing(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(OLD))
    assert start(tmp_path, KERAS_BACKEND="torch", KERAS_MAX_EPOCHS="1") == "tensorflow float32 1e-07 channels_last None"


@pytest.mark.slow
def test_settings_that_keras_refuses_are_named(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps(OLD | {"floatx": "float8"}))
    assert start(tmp_path).startswith("keras.json in ~/.keras or KERAS_HOME: Invalid `floatx`")


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
def test_too_little_address_space_is_a_line_that_says_how_much_it_takes(tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))"
    assert start(tmp_path, limit) == (
        "TensorFlow takes about 4 GB of address space, and this process may have 1.5 GB: raise the limit (ulimit -v)"
    )
