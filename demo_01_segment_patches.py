"""Segment the ADP tuning patches by morphological and functional tissue type."""

import sys

from hsn_v1 import HistoSegNetV1
from hsn_v1.commands.demo import demo  # options, and phantoms where there is no official data

INPUT_NAME = "01_tuning_patch"
MODEL_NAME = "histonet_X1.7_clrdecay_5"
PHANTOM = ("01_phantom_patch", "histonet_X1.7_phantom")  # set and model where there is no official data
HTT_MODE = "both"  # both (morph and func), morph, func or glas
DOWN_FAC = 1.0  # scale of the classifier, 1.2142857 mpp, over that of the images
BATCH_SIZE = 1  # tiles at once: more are no faster on a CPU, and the workers would wait for them
GT_MODE = "on"  # compare with gt/<INPUT_NAME>, or off
RUN_LEVEL = 3  # 1: scores; 2: also Grad-CAM and adjustment; 3: also CRF
SAVE_TYPES = [True, True, True, True]  # confidences, adjusted maps, masks, summaries

# After the CRF, on all 50 images with the official weights: the authors' executed notebook.
PUBLISHED = {
    "morph": {"fIoU": 0.20567515, "mIoU": 0.22060561},
    "func": {"fIoU": 0.54217157, "mIoU": 0.55052868},
}

PARAMS = {
    "input_name": INPUT_NAME,
    "input_size": [224, 224],
    "input_mode": "patch",
    "down_fac": DOWN_FAC,
    "batch_size": BATCH_SIZE,
    "htt_mode": HTT_MODE,
    "gt_mode": GT_MODE,
    "run_level": RUN_LEVEL,
    "save_types": SAVE_TYPES,
    "verbosity": "NORMAL",
}


def segment(params, model_name, **options):
    """Make the four published calls, and return what was measured."""
    hsn = HistoSegNetV1(params=params, **options)
    hsn.find_img()
    hsn.analyze_img()
    hsn.load_histonet(params={"model_name": model_name})
    return hsn.run_batch()


if __name__ == "__main__":
    sys.exit(demo(__doc__, segment, PARAMS, MODEL_NAME, PUBLISHED, PHANTOM))
