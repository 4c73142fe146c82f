"""HistoSegNet (V1): segments histology images by tissue type, from a classifier trained on patch labels only.

segment_image   segment one image: the whole method, arrays in and out
segment_slide   segment a slide or an image of any size, and write label maps, outlines and areas
load_histonet   load a classifier
HistoSegNetV1   the published demo scripts' calls, over a set of images
InputError      what the user gave cannot be used; the message is one line
"""

from importlib import import_module

__version__ = "1.1.0.dev1"

_HOMES = {
    "HistoSegNetV1": "sets.published",
    "InputError": "errors",
    "load_histonet": "io.models",
    "segment_image": "hsn_v1",
    "segment_slide": "slides.segment_slide",
}
__all__ = [*_HOMES]


def __getattr__(name: str):
    """Import what is asked for on first use, so that importing the package stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted([*_HOMES, "__version__"])
