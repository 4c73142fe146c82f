"""Prepare EBHI-Seg's images for the classifier ``colon_glands``: normalise stains to the set's, and vary them.

    python benchmarks/colon_glands.py EBHI OUT   # EBHI: folder of train, validation and test, each with img and mask
    cd OUT
    C="other=#039be5 gland=#000080"
    for part in train validation; do
      hsn-v1 patches --images $part/img --truth $part/mask --classes $C --mpp 1.5 --patch-mpp 1 --size 48 --context 32 \
        --stride 96 --share 0.3 --out patches/$part
    done
    hsn-v1 train --network efficientnet-lite0 --name colon_glands --images patches/train \
      --validation patches/validation --mpp 1 --classes $C

Then copy the table that this script prints into data/colon_glands.toml. Scales and stains were chosen on GlaS's
training images, thresholds on EBHI-Seg's validation part.
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from skimage.color import hed2rgb, rgb2hed

from hsn_v1.classify import normalise_stain, stain_statistics
from hsn_v1.io.images import read_image
from hsn_v1.io.writing import write_picture
from hsn_v1.labels import Stain


def varied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Vary the strength of each stain by up to 35 %, and the balance of the colours by up to 12 %."""
    stains = rgb2hed(image) * rng.uniform(0.65, 1.35, 3) + rng.uniform(-0.04, 0.04, 3)
    return (hed2rgb(stains) * 255 * rng.uniform(0.88, 1.12, 3)).clip(0, 255).astype(np.uint8)


def main(source: Path, out: Path) -> None:
    """Write the images and masks of the parts ``train`` and ``validation``, and print the set's stain."""
    rng = np.random.default_rng(0)
    images = {path: read_image(path)[0] for path in sorted((source / "train" / "img").glob("*.png"))}
    mean, std = np.median([stain_statistics(image) for image in images.values()], axis=0)
    stain = Stain(tuple(mean.round(2).tolist()), tuple(std.round(2).tolist()))
    print(f"[stain]\nmean = {list(stain.mean)}\nstd = {list(stain.std)}")
    for part in ("train", "validation"):
        for path in sorted((source / part / "img").glob("*.png")):
            image, mask = read_image(path)[0], (source / part / "mask" / path.name).read_bytes()
            forms = {"stain": normalise_stain(image, stain_statistics(image), stain)}
            if part == "train":
                forms["varied"] = varied(image, rng)
            for form, picture in forms.items():
                write_picture(out / part / "img" / f"{path.stem}_{form}.png", picture)
                (out / part / "mask").mkdir(parents=True, exist_ok=True)
                (out / part / "mask" / f"{path.stem}_{form}.png").write_bytes(mask)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main(*map(Path, sys.argv[1:]))
