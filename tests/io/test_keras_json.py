"""Only allowed layers are built, and what is built computes what Keras' own reader would make of it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from hsn_v1.errors import InputError
from hsn_v1.io.keras_graph import REVERSAL
from hsn_v1.io.keras_json import network_of, portable, read_architecture
from hsn_v1.io.keras_layers import INACTIVE

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
        network_of(keras, form(sequential(("ReLU", {}), layer)), SOURCE)
    assert str(caught.value).startswith("model.json: ")
    assert "\n" not in str(caught.value)


def changed(**changes):
    """Return the Functional of a convolution and a ReLU of which one entry was changed."""
    description = as_functional(sequential(CONV, ("ReLU", {})))
    description["config"]["layers"][1].update(changes)
    return description


def within(depth):
    """Describe models within each other."""
    layers = as_keras_3(sequential(("ReLU", {})))["config"]["layers"]
    for _ in range(depth):
        layers = [layers[0], {"class_name": "Sequential", "config": {"name": "inner", "layers": layers}}]
    return {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}


MARKS = [{"module": "os"}, {"module": "my.layers"}, {"registered_name": "mine>Conv2D"}]
NO_LAYERS = [[], {}, {"layers": 3}, [3], [{}], [{"class_name": "ReLU"}], [{"class_name": "ReLU", "config": "x"}]]
SHAPES = [None, [], [None, None, None, 3], [None, -1, 8, 3], "x", [None, 8.0, 8, 3]]
NODES = {
    "a loop": ([[["layer_1", 0, 0, {}]]], "inputs that no layer gives"),
    "a missing input": ([[["x", 0, 0, {}]]], "inputs that no layer gives"),
    "used twice": ([[["in", 0, 0, {}]]] * 2, "expected that it is used once"),
    "a second output": ([[["in", 0, 1, {}]]], "outputs of layers alone"),
    "a constant": ([{"args": [3], "kwargs": {}}], "outputs of layers alone"),
    "an option": ([[["in", 0, 0, {"mask": "x"}]]], "outputs of layers alone"),
    "words": ("in", "expected that it is used once"),
}
LARGE_POOL = {"pool_size": 1 << 20, "padding": "same", "strides": 1}
REFUSED = {
    **{f"{mark}": (changed(**mark), r"layer 'layer_0' is .*expected Keras' own layers") for mark in MARKS},
    **{f"config {c}": ({"class_name": "Sequential", "config": c}, "has no list of layers") for c in NO_LAYERS},
    **{f"shape {s}": (sequential(CONV, batch_input_shape=s), "the shape of its input is") for s in SHAPES},
    **{name: (changed(inbound_nodes=nodes), message) for name, (nodes, message) in NODES.items()},
    "models within models": (within(6), "models within each other"),
    "a large tile": (sequential(CONV, batch_input_shape=[None, 30000, 30000, 3]), "values for one tile"),
    "large padding": (sequential(("ZeroPadding2D", {"padding": 50_000})), "values for one tile"),
    "many filters": (sequential(("Conv2D", {"filters": 1 << 20, "kernel_size": 1})), "values for one tile"),
    "many weights": (sequential(("Flatten", {}), ("Dense", {"units": 1 << 20})), "weights, more than"),
    "a large window": (sequential(("MaxPooling2D", LARGE_POOL)), "multiplications"),
    "many layers": (sequential(*[("ReLU", {})] * 3000), "3,000 layers, more than"),
}


@pytest.mark.parametrize(("description", "message"), REFUSED.values(), ids=REFUSED)
def test_networks_that_are_none_or_need_too_much_are_refused_before_they_are_built(keras, description, message):
    with pytest.raises(InputError, match=message):
        network_of(keras, description, SOURCE)


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


def test_what_is_built_computes_what_was_described(keras, eagerly):
    model = branched(keras)
    description = json.loads(model.to_json())
    flat = json.loads(network_of(keras, description, SOURCE).model.to_json())
    convolution = next(layer for layer in portable(flat)["config"]["layers"] if layer["class_name"] == "Conv2D")
    assert convolution["config"]["activation"] == "gelu"
    assert not [key for key in convolution["config"] if key.endswith(("izer", "constraint"))]
    tiles = np.random.default_rng(0).random((2, SIZE, SIZE, 3), np.float32)
    expected = model.predict_on_batch(tiles)
    for twin in (
        network_of(keras, description, SOURCE).model,
        network_of(keras, portable(flat), SOURCE).model,
        keras.models.model_from_json(json.dumps(portable(flat))),
    ):
        twin.set_weights(model.get_weights())
        np.testing.assert_allclose(twin.predict_on_batch(tiles), expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_forms_of_a_sequential_are_one_network(keras, form):
    model = network_of(keras, form(sequential(CONV, ("MaxPooling2D", {"pool_size": 2}), ("Flatten", {}))), SOURCE).model
    assert model.output_shape == (None, (SIZE // 2) ** 2 * 4)
    assert model.count_params() == 3 * 3 * 3 * 4 + 4


def tf_keras(kind, name, before, **arguments):
    """Describe a layer as tf.keras 2.15 does, with arguments that Keras 3 lacks."""
    config = {"name": name, "trainable": True, "dtype": "float32", "activity_regularizer": None, **arguments}
    entry = {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None, "name": name}
    return {**entry, "build_config": {"input_shape": [None, 8, 8, 3]}, "inbound_nodes": [[[before, 0, 0, {}]]]}


def tf_keras_model(*layers):
    """Describe a chain of (class, arguments) as tf.keras 2.15 does."""
    entrance = {"batch_input_shape": [None, SIZE, SIZE, 3], "dtype": "float32", "sparse": False, "ragged": False}
    entries = [{"class_name": "InputLayer", "config": {**entrance, "name": "in"}, "name": "in", "inbound_nodes": []}]
    for i, (kind, arguments) in enumerate(layers):
        entries.append(tf_keras(kind, arguments.pop("name", f"block/{i}"), entries[-1]["name"], **arguments))
    config = {"name": "model", "layers": entries, "input_layers": [["in", 0, 0]]}
    config["output_layers"] = [[entries[-1]["name"], 0, 0]]
    return {"class_name": "Functional", "config": config, "keras_version": "2.15.0", "backend": "tensorflow"}


HALF = {"module": "keras.mixed_precision", "class_name": "Policy", "config": {"name": "mixed_float16"}}
TF_KERAS = {
    "an axis in a list": (("BatchNormalization", {"axis": [3], "fused": True, "momentum": 0.9}), "BatchNormalization"),
    "one group": (("DepthwiseConv2D", {"kernel_size": [3, 3], "groups": 1}), "DepthwiseConv2D"),
    "groups of a separable one": (("SeparableConv2D", {"filters": 2, "kernel_size": [3, 3], "groups": 1}), "Separable"),
    "a policy": (("Conv2D", {"filters": 2, "kernel_size": [1, 1], "dtype": HALF}), "Conv2D"),
    "an alpha": (("LeakyReLU", {"alpha": 0.3}), "LeakyReLU"),
    "a number of NumPy's": (("ReLU", {"max_value": {"class_name": "__numpy__", "config": {"value": 6.0}}}), "ReLU"),
    "a threshold": (("ThresholdedReLU", {"theta": 1.0}), "ReLU"),
    "synchronised": (("SyncBatchNormalization", {"axis": [3]}), "BatchNormalization"),
    "another activation": (("PReLU", {"shared_axes": [1, 2]}), "PReLU"),
    "cropped": (("Cropping2D", {"cropping": [[1, 1], [1, 1]]}), "Cropping2D"),
    "larger": (("UpSampling2D", {"size": [2, 2], "interpolation": "bilinear"}), "UpSampling2D"),
    "transposed": (("Conv2DTranspose", {"filters": 2, "kernel_size": 2, "output_padding": None}), "Conv2DTranspose"),
    "groups of channels": (("GroupNormalization", {"groups": 3, "axis": -1, "epsilon": 0.001}), "GroupNormalization"),
    "nested statistics": (("Normalization", {"mean": [[[[1, 2, 3]]]], "variance": [[[[1, 4, 9]]]]}), "Normalization"),
}


@pytest.mark.parametrize(("layer", "kind"), TF_KERAS.values(), ids=TF_KERAS)
def test_models_of_tf_keras_are_built(keras, eagerly, layer, kind):
    network = network_of(keras, tf_keras_model((layer[0], dict(layer[1]))), SOURCE)
    assert type(network.model.layers[-1]).__name__.startswith(kind) and network.model.layers[-1].name == "block_0"
    assert list(network.groups) == ["in", "block/0"]
    assert np.isfinite(network.model.predict_on_batch(np.ones((1, SIZE, SIZE, 3)))).all()


@pytest.mark.parametrize("kind", INACTIVE)
def test_what_does_nothing_at_inference_is_passed_over(keras, kind):
    network = network_of(keras, tf_keras_model((kind, {"factor": 0.1}), ("ReLU", {})), SOURCE)
    assert [type(layer).__name__ for layer in network.model.layers] == ["InputLayer", "ReLU"]


def operation(function, **constants):
    entry = tf_keras("TFOpLambda", function, "in", function=function)
    return {**entry, "inbound_nodes": [["in", 0, 0, {**constants, "name": None}]]}


OPERATIONS = {
    "truediv": (operation("math.truediv", y=127.5), lambda x: x / 127.5),
    "subtract": (operation("math.subtract", y=1.0), lambda x: x - 1),
    "multiply": (operation("math.multiply", y=[1.0, 2.0, 3.0]), lambda x: x * np.float32([1, 2, 3])),
    "bias_add": (operation("nn.bias_add", bias=[-1.0, -2.0, -3.0]), lambda x: x - np.float32([1, 2, 3])),
    "relu": (operation("nn.relu"), lambda x: np.maximum(x, 0)),
    "cast": (operation("cast", dtype="float32"), lambda x: x),
    "reversed": (
        {
            **tf_keras("SlicingOpLambda", "flip", "in", function="__operators__.getitem"),
            "inbound_nodes": [["in", 0, 0, {"slice_spec": [{"class_name": "__ellipsis__"}, {**REVERSAL[1]}]}]],
        },
        lambda x: x[..., ::-1],
    ),
}


@pytest.mark.parametrize(("entry", "expected"), OPERATIONS.values(), ids=OPERATIONS)
def test_arithmetic_between_layers_is_computed(keras, eagerly, entry, expected):
    description = tf_keras_model(("ReLU", {"name": entry["name"]}))
    description["config"]["layers"][1] = entry
    tiles = np.random.default_rng(0).normal(0, 100, (2, SIZE, SIZE, 3)).astype(np.float32)
    result = network_of(keras, description, SOURCE).model.predict_on_batch(tiles)
    np.testing.assert_allclose(result, expected(tiles), rtol=1e-6)


def test_other_operations_are_refused(keras):
    for function, constants in (("math.truediv", {"y": 0}), ("io.read_file", {}), (None, {}), ("math.add", {"y": "x"})):
        description = tf_keras_model(("ReLU", {"name": str(function)}))
        description["config"]["layers"][1] = {**operation(function, **constants), "name": str(function)}
        with pytest.raises(InputError, match=r"is the operation .* not built from a file"):
            network_of(keras, description, SOURCE)


def test_keras_2_has_a_hard_sigmoid_of_its_own(keras, eagerly):
    tiles = np.linspace(-4, 4, SIZE * SIZE * 3, dtype=np.float32).reshape(1, SIZE, SIZE, 3)
    for version, expected in (("2.15.0", np.clip(0.2 * tiles + 0.5, 0, 1)), ("3.1.0", np.clip(tiles / 6 + 0.5, 0, 1))):
        description = tf_keras_model(("Activation", {"activation": "hard_sigmoid"}))
        model = network_of(keras, {**description, "keras_version": version}, SOURCE).model
        np.testing.assert_allclose(model.predict_on_batch(tiles), expected, atol=1e-6)


def test_models_within_models_are_laid_out_flat(keras):
    layers = keras.layers
    inner = keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="inner"
    )
    tile = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(tile, layers.Conv2D(2, 1, name="conv")(inner(layers.RandomFlip(name="flip")(tile))))
    network = network_of(keras, json.loads(model.to_json()), SOURCE)
    assert [layer.name for layer in network.model.layers if layer.weights] == ["conv", "conv_"]
    names = [[name for name, _ in group] for group in network.groups.values()]
    assert names == [[], [], [f"{inner.name}/conv"], ["conv"]]
