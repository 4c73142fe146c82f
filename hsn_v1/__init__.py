"""HistoSegNet (V1): segments histology images by tissue type, from a classifier trained on patch labels only.

docs/python.md shows all of this at work. Images are uint8 arrays of shape (H, W, 3), RGB; masks hold class indices.

The whole method:
    segment_image       segment one image: the masks after each stage, and the adjusted maps
    segment_slide       segment a slide or an image of any size, and write label maps, outlines and areas
    HistoSegNetV1       the published demo scripts' calls, over a set of images

Load and read:
    load_histonet       load a classifier, by its name or path
    load_crfs           load the CRF settings that go with it
    ADP                 classes and label sets of the published classifier
    read_class_file     read a file of classes
    imread              read an image
    read_mask           read a mask file of any encoding as class indices
    find_images         list the images of a folder
    choose_data         choose the data of a demo: the authors' if present, else phantoms

1. Classify:
    scores              score of each output of the classifier
    classify_image      scores and coarse maps of an image's tiles
    TileGrid            grid of an image's tiles: cuts them out, and stitches their maps
    normalise           standardise tiles by the training patches' mean and deviation
    HistoNet            a Keras classifier: activations, channel weights, scores, coarse maps
    FunctionClassifier  a classifier of any other framework

2. Localise:
    grad_cam            Grad-CAM of one class: raw, resized or normalised
    localise            Grad-CAMs of the classes of a label set that are present

3. Adjust:
    adjusted_maps       maps of a label set after stages 2 and 3
    background_map      likeness of each pixel to the slide's bare glass
    unsubtracted_maps   Grad-CAMs with background and other
    subtract            let the classes compete
    subtract_classes    the same for any maps, one class after another, as in the released code

4. Refine:
    CRF                 dense CRF with its settings: call it, or run it step by step
    winners             class of the highest map or probability at each pixel

Measure, show, write:
    iou                 IoU of each class of a mask
    separate_objects    label the objects of a mask, as published
    overlay             a mask over its image, as an RGB array
    heat                a class's map over its image, as an RGB array
    colourise           a mask in its colours, as an RGB array
    plot                a mask over its image on Matplotlib's axes, with its legend
    write_mask          write a mask as a palette PNG

InputError          an input cannot be used; the message is one line, and says what to do
"""

from importlib import import_module

__version__ = "1.1.0.dev1"

#: Public names by the module that defines them.
_NAMES = {
    "hsn_v1": "segment_image winners",
    "slides.segment_slide": "segment_slide",
    "sets.published": "HistoSegNetV1 choose_data",
    "sets.measure": "separate_objects",
    "io.models": "load_histonet",
    "adp": "ADP",
    "io.model_files": "load_crfs read_class_file",
    "io.images": "imread find_images",
    "io.masks": "read_mask write_mask",
    "stages": "scores classify_image FunctionClassifier grad_cam adjusted_maps iou",
    "tiles": "TileGrid",
    "histonet": "normalise HistoNet",
    "gradcam": "localise",
    "adjust": "background_map unsubtracted_maps subtract subtract_classes",
    "densecrf": "CRF",
    "show.figures": "overlay colourise",
    "show.sheets": "heat plot",
    "errors": "InputError",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = [*_HOMES]


def __getattr__(name: str):
    """Import a public name on first use, so that importing the package stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted([*_HOMES, "__version__"])
