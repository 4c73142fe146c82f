"""Score ``colon_glands`` on images with masks: mIoU before and after the CRF, with 95 % bootstrap intervals.

    python benchmarks/colon_glands_scores.py EBHI/test/img EBHI/test/mask 1.5 GLAS/img GLAS/gt 0.62

scores both test sets. The arguments are, for each set, the folder of images, the folder of masks, and the images' scale
in microns per pixel. Masks have the colours, or the indices, of the label set ``glands``.
"""

import sys
from pathlib import Path

from hsn_v1 import load_histonet
from hsn_v1.classify import classify
from hsn_v1.densecrf import CRF
from hsn_v1.evaluate import confusion_matrix, mean_iou_present
from hsn_v1.hsn_v1 import segment
from hsn_v1.intervals import Estimate, draw_weights, weighted_sums
from hsn_v1.io.images import find_images, read_image
from hsn_v1.io.masks import find_mask, read_mask

DATA = Path(__file__).parents[1] / "data"
DRAWS = 2000


def main(images: Path, masks: Path, mpp: float) -> None:
    """Print the scores of a folder of images."""
    classifier = load_histonet(DATA, "colon_glands")
    label_set = classifier.labels.label_sets["glands"]
    crf = CRF.from_file(DATA / f"colon_glands_{label_set.name}_optimal_pcc.npy")
    counts = {"before the CRF": [], "after the CRF": []}
    pairs = ((path, read_image(path)[0]) for path in find_images(images, "any"))
    for path, image, tiles in classify(pairs, classifier, classifier.mpp / mpp):
        truth = read_mask(find_mask(masks, path.name), label_set, image.shape[:2], "silently").labels
        predicted = dict(segment(image, tiles, [label_set], {label_set.name: crf}))[label_set.name].masks
        for stage, mask in zip(counts, (predicted["Adjust"], predicted["CRF"]), strict=True):
            counts[stage].append(confusion_matrix(truth, mask, len(label_set)))
    for stage, confusions in counts.items():
        weights = draw_weights(range(len(confusions)), DRAWS)
        print(
            f"{stage}: mIoU {Estimate.of(mean_iou_present(weighted_sums(confusions, weights)))}, "
            f"{len(confusions)} images"
        )


if __name__ == "__main__":
    for images, masks, mpp in zip(*[iter(sys.argv[1:])] * 3, strict=True):
        print(images)
        main(Path(images), Path(masks), float(mpp))
