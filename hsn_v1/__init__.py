"""HistoSegNet (V1): segments histology images by tissue type, from a classifier trained on patch labels only."""

from importlib import import_module

__version__ = "1.0.0"

_HOMES = {
    "HistoSegNetV1": "sets.published",
    "InputError": "errors",
    "load_histonet": "histonet",
    "segment_image": "hsn_v1",
    "segment_slide": "slides.own_file",
}
__all__ = [*_HOMES]


def __getattr__(name: str):
    """Import what is asked for on first use, so that importing the package stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
