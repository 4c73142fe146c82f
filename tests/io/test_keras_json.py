"""Only allowed layers are built, and what is built computes what Keras' own reader would make of it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.io.keras_json import build_model, portable, read_architecture

SOURCE = Path("model.json")
SIZE = 16


def sequential(*layers, **entrance):
    """Describe a Sequential as Keras 2.2 does: (class, arguments) of each layer."""
    config = [
        {"class_name": kind, "config": {"name": f"layer_{i}", **arguments}}
        for i, (kind, arguments) in enumerate(layers)
    ]
    config[0]["config"] = {"batch_input_shape": [None, SIZE, SIZE, 3], **config[0]["config"], **entrance}
    return {"class_name": "Sequential", "config": config, "keras_version": "2.2.2"}


def as_keras_3(description):
    """Describe the same Sequential as Keras 3 does."""
    entrance = {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, SIZE, SIZE, 3]}}
    layers = [
        {"module": "keras.layers", "registered_name": None, **each} for each in (entrance, *description["config"])
    ]
    for layer in layers:
        layer["config"].pop("batch_input_shape", None)
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": layers}}


def as_functional(description):
    """Describe the same chain as a Functional, as Keras 2 does."""
    layers = as_keras_3(description)["config"]["layers"]
    for before, layer in zip([None, *layers], layers, strict=False):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]] if before else []
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [[layers[-1]["name"], 0, 0]]}
    return {"class_name": "Model", "config": {"name": "net", "layers": layers, **ends}}


def nested(description):
    """Describe a model of which the given one is the second layer."""
    outer = as_keras_3(sequential(("ReLU", {})))
    outer["config"]["layers"].insert(1, {**as_keras_3(description), "name": "inner"})
    return outer


FORMS = [copy.deepcopy, as_keras_3, as_functional, nested]
CONV = ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "padding": "same", "activation": "relu"})
LAMBDA = {"function": {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}}

NOT_BUILT = {
    "code": (("Lambda", LAMBDA), "'Lambda', which is not built from a file"),
    "a file's words": (("StringLookup", {"vocabulary": "/etc/passwd"}), "'StringLookup', which is not built"),
    "a saved model": (("TFSMLayer", {"filepath": "/tmp/x"}), "'TFSMLayer', which is not built"),
    "a wrapper": (("TimeDistributed", {"layer": {"class_name": "Lambda", "config": LAMBDA}}), "'TimeDistributed'"),
    "an attribute of keras.layers": (("__class__", {}), "'__class__', which is not built"),
    "a path in an argument": (("Conv2D", {**CONV[1], "weights": "/etc/passwd"}), "'weights' is '/etc/passwd'"),
    "an object as activation": (("Activation", {"activation": {"class_name": "Lambda"}}), "activation is .*; expected"),
    "a function of a module": (("Activation", {"activation": "os.system"}), "activation is 'os.system'"),
    "a custom data type": (("Conv2D", {**CONV[1], "dtype": {"class_name": "Mine", "config": {}}}), "dtype is"),
    "an unknown switch": (("ReLU", {"quantization_config": {"mode": "int8"}}), "'quantization_config' is"),
    "channels first": (("Conv2D", {**CONV[1], "data_format": "channels_first"}), "data_format is 'channels_first'"),
    "a negative number": (("Conv2D", {**CONV[1], "filters": -1}), "filters is -1; expected a positive whole number"),
    "a truth for a number": (("Conv2D", {**CONV[1], "filters": True}), "filters is True"),
    "NaN": (("BatchNormalization", {"epsilon": float("nan")}), "epsilon is nan; expected"),
    "infinity": (("ReLU", {"max_value": float("inf")}), "max_value is inf"),
    "a huge number": (("Rescaling", {"scale": 10**400}), "scale is 1000.*; expected a finite number"),
    "words for a number": (("Dropout", {"rate": "half"}), "rate is 'half'"),
    "a shape that does not fit": (("Reshape", {"target_shape": [7, 7]}), "Keras cannot build this Reshape"),
    "a missing argument": (("Dense", {}), "Keras cannot build this Dense"),
    "two names": (("ReLU", {"name": "layer_0"}), "two layers have the name 'layer_0'"),
    "a name with a newline": (("ReLU", {"name": "a\nb"}), r"has the name 'a\\nb'"),
    "a number as name": (("ReLU", {"name": 3}), "has the name 3"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("layer", "message"), NOT_BUILT.values(), ids=NOT_BUILT)
def test_what_is_not_allowed_is_refused_by_name(keras, form, layer, message):
    with pytest.raises(InputError, match=message) as caught:
        build_model(keras, form(sequential(("ReLU", {}), layer)), SOURCE)
    assert str(caught.value).startswith("model.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", [{"module": "os"}, {"module": "my.layers"}, {"registered_name": "mine>Conv2D"}])
def test_layers_of_other_modules_are_refused(keras, mark):
    description = as_keras_3(sequential(CONV))
    description["config"]["layers"][1].update(mark)
    with pytest.raises(InputError, match=r"layer 'layer_0' is .*expected Keras' own layers"):
        build_model(keras, description, SOURCE)


TOO_LARGE = {
    "tile": (sequential(CONV, batch_input_shape=[None, 30000, 30000, 3]), "values for one tile"),
    "padding": (sequential(("ZeroPadding2D", {"padding": 50_000})), "values for one tile"),
    "filters": (sequential(("Conv2D", {"filters": 1 << 20, "kernel_size": 1})), "values for one tile"),
    "weights": (sequential(("Flatten", {}), ("Dense", {"units": 1 << 20})), "weights, more than"),
    "window": (
        sequential(("MaxPooling2D", {"pool_size": 1 << 20, "padding": "same", "strides": 1})),
        "multiplications",
    ),
    "layers": (sequential(*[("ReLU", {})] * 3000), "3,000 layers, more than"),
}


@pytest.mark.parametrize(("description", "message"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_needs_too_much_is_refused_before_it_is_built(keras, description, message):
    with pytest.raises(InputError, match=message):
        build_model(keras, description, SOURCE)


def test_models_within_each_other_have_an_end(keras):
    layers = as_keras_3(sequential(("ReLU", {})))["config"]["layers"]
    for _ in range(6):
        layers = [layers[0], {"class_name": "Sequential", "config": {"name": "inner", "layers": layers}}]
    with pytest.raises(InputError, match="models within each other"):
        build_model(keras, {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}, SOURCE)


GRAPHS = {
    "a loop": ([[["layer_1", 0, 0, {}]]], "inputs that no layer gives"),
    "a missing input": ([[["x", 0, 0, {}]]], "inputs that no layer gives"),
    "used twice": ([[["in", 0, 0, {}]]] * 2, "expected that it is used once"),
    "a second output": ([[["in", 0, 1, {}]]], "outputs of layers alone"),
    "a constant": ([{"args": [3], "kwargs": {}}], "outputs of layers alone"),
    "an option": ([[["in", 0, 0, {"mask": "x"}]]], "outputs of layers alone"),
    "words": ("in", "expected that it is used once"),
}


@pytest.mark.parametrize(("nodes", "message"), GRAPHS.values(), ids=GRAPHS)
def test_graphs_that_are_none_are_refused(keras, nodes, message):
    description = as_functional(sequential(CONV, ("ReLU", {})))
    description["config"]["layers"][1]["inbound_nodes"] = nodes
    with pytest.raises(InputError, match=message):
        build_model(keras, description, SOURCE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "not a JSON file"),
        ('{"config": ' * 50_000, "not a JSON file"),
        ('{"class_name": "Sequential", "config": "layers"}', "not the architecture"),
        ('{"class_name": "Sequential", "config": 3}', "not the architecture"),
        ("\xff", "not a JSON file"),
        ("null", "not the architecture"),
        ("9" * 5000, "not a JSON file"),
        (" " * (17 << 20), "larger than"),
    ],
)
def test_what_is_no_architecture_is_named(tmp_path, text, message):
    path = tmp_path / "model.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message) as caught:
        read_architecture(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "config", [[], {}, {"layers": 3}, [3], [{}], [{"class_name": "ReLU"}], [{"class_name": "ReLU", "config": "x"}]]
)
def test_what_has_no_layers_is_named(keras, config):
    with pytest.raises(InputError, match="has no list of layers"):
        build_model(keras, {"class_name": "Sequential", "config": config}, SOURCE)


@pytest.mark.parametrize("shape", [None, [], [None, None, None, 3], [None, -1, 8, 3], "x", [None, 8.0, 8, 3]])
def test_tiles_have_a_size(keras, shape):
    with pytest.raises(InputError, match="the shape of its input is"):
        build_model(keras, sequential(CONV, batch_input_shape=shape), SOURCE)


def branched(keras):
    """Return a network with branches and another model within."""
    layers = keras.layers
    inner = keras.Sequential([keras.Input((SIZE, SIZE, 4)), layers.DepthwiseConv2D(3, padding="same"), layers.ReLU(6)])
    tile = keras.Input((SIZE, SIZE, 3))
    x = layers.Rescaling(1 / 255)(tile)
    x = layers.Conv2D(4, 3, padding="same", activation="gelu", kernel_regularizer="l2")(x)
    y = inner(x, training=False)
    x = layers.Concatenate()([layers.Add()([x, y]), layers.Multiply()([x, y])])
    x = layers.BatchNormalization()(layers.ZeroPadding2D(1)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(layers.SeparableConv2D(5, 3)(x)))
    return keras.Model(tile, layers.Dense(7, "sigmoid")(x))


def test_what_is_built_computes_what_was_described(keras):
    model = branched(keras)
    description = json.loads(model.to_json())
    tiles = np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)
    expected = model.predict_on_batch(tiles)
    for twin in (
        build_model(keras, description, SOURCE),
        build_model(keras, portable(description), SOURCE),
        keras.models.model_from_json(json.dumps(portable(description))),
    ):
        twin.set_weights(model.get_weights())
        np.testing.assert_allclose(twin.predict_on_batch(tiles), expected, rtol=1e-5)


def test_what_is_portable_holds_no_more_than_is_needed(keras):
    description = portable(json.loads(branched(keras).to_json()))
    convolution = next(layer for layer in description["config"]["layers"] if layer["class_name"] == "Conv2D")
    assert convolution["config"]["activation"] == "gelu"
    assert not [key for key in convolution["config"] if key.endswith(("izer", "constraint"))]


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_a_sequential_are_one_network(keras, form):
    model = build_model(keras, form(sequential(CONV, ("MaxPooling2D", {"pool_size": 2}), ("Flatten", {}))), SOURCE)
    assert model.output_shape == (None, (SIZE // 2) ** 2 * 4)
    assert model.count_params() == 3 * 3 * 3 * 4 + 4
