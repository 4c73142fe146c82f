"""Segment the glands of the GlaS images."""

import sys

from hsn_v1 import HistoSegNetV1
from hsn_v1.commands.common import exit_status
from hsn_v1.commands.demo import demo_data, demo_options, print_report, run_options

PARAMS = {
    "input_name": "02_glas_full",
    "input_size": [224, 224],
    "input_mode": "patch",
    "down_fac": 0.25 * 1088 / 224 / 0.620,  # scale of the classifier over that of the images, 0.620 mpp
    "batch_size": 1,  # tiles at once: more are no faster on a CPU, and the workers would wait for them
    "htt_mode": "glas",  # both (morph and func), morph, func or glas
    "gt_mode": "on",  # compare with gt/<input_name>, or off
    "run_level": 3,  # 1: scores; 2: also Grad-CAM and adjustment; 3: also CRF
    "save_types": [True, True, True, True],  # confidences, adjusted maps, masks, summaries
    "verbosity": "NORMAL",
}
MODEL_NAME = "histonet_X1.7_clrdecay_5"
PHANTOM = ("02_phantom_glas", "histonet_X1.7_phantom56")  # set and model where there is no official data

# After the CRF, on all 165 images with the official weights: the authors' executed notebook.
PUBLISHED = {"glas": {"fIoU": 0.43560217, "mIoU": 0.43551234}}


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
