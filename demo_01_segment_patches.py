"""Segment the ADP tuning patches by morphological and functional tissue type."""

import sys

from hsn_v1 import HistoSegNetV1
from hsn_v1.commands.common import exit_status
from hsn_v1.commands.demo import demo_data, demo_options, print_report, run_options

PARAMS = {
    "input_name": "01_tuning_patch",
    "input_size": [224, 224],
    "input_mode": "patch",
    "down_fac": 1.0,  # scale of the classifier, 1.2142857 mpp, over that of the images
    "batch_size": 1,  # tiles at once: more are no faster on a CPU, and the workers would wait for them
    "htt_mode": "both",  # both (morph and func), morph, func or glas
    "gt_mode": "on",  # compare with gt/<input_name>, or off
    "run_level": 3,  # 1: scores; 2: also Grad-CAM and adjustment; 3: also CRF
    "save_types": [True, True, True, True],  # confidences, adjusted maps, masks, summaries
    "verbosity": "NORMAL",
}
MODEL_NAME = "histonet_X1.7_clrdecay_5"
PHANTOM = ("01_phantom_patch", "histonet_X1.7_phantom")  # set and model where there is no official data

# After the CRF, on all 50 images with the official weights: the authors' executed notebook.
PUBLISHED = {
    "morph": {"fIoU": 0.20567515, "mIoU": 0.22060561},
    "func": {"fIoU": 0.54217157, "mIoU": 0.55052868},
}


def main() -> int:
    """Segment the images, report what they are worth, and return the exit status: 1 if an image failed."""
    options = demo_options(__doc__)
    data = demo_data(options, PARAMS, MODEL_NAME, PHANTOM)
    hsn = HistoSegNetV1(params=data.params, published=PUBLISHED, **run_options(options, data))
    hsn.find_img()
    hsn.analyze_img()
    hsn.load_histonet(params={"model_name": data.model_name})
    report = hsn.run_batch()
    return print_report(hsn, report, options.protocols)


if __name__ == "__main__":
    sys.exit(exit_status(main))
