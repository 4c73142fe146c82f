"""Classify the tiles of a slide with TIAToolbox; `bench_peers.py` runs this in an environment that has TIAToolbox.

    python benchmarks/peer_tiatoolbox.py SLIDE MPP WEIGHTS.npz SCALE TILE STRIDE BATCH OUT

MPP is the slide's scale, SCALE the classifier's, in microns per pixel. Weights are arrays in the order of the network's
layers. A convolution has a kernel (rows, columns, in, out) and a bias; a batch norm has scale, offset, mean and
variance; the dense layer has a matrix and a bias. Prints a line of JSON: the seconds of the engine's run, without
imports, and the number of tiles.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC
from tiatoolbox.wsicore.wsireader import WSIReader
from torch import nn

BLOCKS = (2, 2, 3)  #: convolutions before each pooling


class Classifier(ModelABC):
    """The phantoms' classifier in PyTorch."""

    def __init__(self, arrays: list[np.ndarray], mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        take, layers = iter([torch.from_numpy(array) for array in arrays]), []
        for block in BLOCKS:
            for _ in range(block):
                kernel, bias, *norm = (next(take) for _ in range(6))
                conv = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
                bn = nn.BatchNorm2d(kernel.shape[3], eps=1e-3)
                conv.weight.data, conv.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), bias
                bn.weight.data, bn.bias.data, bn.running_mean, bn.running_var = norm
                layers += [conv, nn.ReLU(inplace=True), bn]
            layers.append(nn.MaxPool2d(2))
        matrix, bias = next(take), next(take)
        dense = nn.Linear(*matrix.shape)
        dense.weight.data, dense.bias.data = matrix.T.contiguous(), bias
        self.layers = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), dense, nn.Sigmoid())
        self.mean, self.std = torch.from_numpy(mean), torch.from_numpy(std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images of shape (T, tile, tile, 3), in 0..255."""
        return self.layers(((images - self.mean) / self.std).permute(0, 3, 1, 2))

    @staticmethod
    def infer_batch(model: nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """Score a batch."""
        with torch.inference_mode():
            return model(batch_data.to(device).float()).cpu().numpy()


def main() -> None:
    """Classify the tiles, and print the seconds and their number."""
    slide, mpp, weights, scale, tile, stride, batch, out = sys.argv[1:]
    with np.load(weights) as content:
        arrays = [content[f"arr_{i}"] for i in range(len(content.files) - 2)]
        model = Classifier(arrays, content["mean"], content["std"]).eval()
    config = IOPatchPredictorConfig(
        input_resolutions=[{"units": "mpp", "resolution": float(scale)}],
        patch_input_shape=[int(tile)] * 2,
        stride_shape=[int(stride)] * 2,
    )
    shutil.rmtree(out, ignore_errors=True)
    predictor = PatchPredictor(model=model, batch_size=int(batch), num_workers=0, verbose=False)
    began = time.perf_counter()
    results = predictor.run(
        [WSIReader.open(Path(slide), mpp=(float(mpp), float(mpp)))],
        patch_mode=False,
        ioconfig=config,
        save_dir=Path(out),
        output_type="zarr",
        return_probabilities=True,
    )
    seconds = time.perf_counter() - began
    import zarr

    (stored,) = results.values() if isinstance(results, dict) else [results]
    tiles = zarr.open(str(stored), mode="r")["probabilities"].shape[0]
    print(json.dumps({"seconds": seconds, "tiles": tiles}))


if __name__ == "__main__":
    main()
