"""Stage 4: a fully connected CRF, which moves the segmentation's borders to those of the image.

`CRF` is the method's own (`crf`). `DenseCRF2D`, `DenseCRF` and the functions for their arguments have the names,
arguments and results of pydensecrf (`pydensecrf_api`, docs/densecrf.md).

This folder imports only `errors` of the package, and works with NumPy and Numba alone.
"""

from .crf import BACKENDS, CRF, LARGE, load_compiled
from .features import (
    compute_unary,
    create_pairwise_bilateral,
    create_pairwise_gaussian,
    image_lattice,
    softmax_to_unary,
    unary_from_labels,
    unary_from_softmax,
)
from .permutohedral import is_compiled
from .pydensecrf_api import (
    CONST_KERNEL,
    DIAG_KERNEL,
    FULL_KERNEL,
    NO_NORMALIZATION,
    NORMALIZE_AFTER,
    NORMALIZE_BEFORE,
    NORMALIZE_SYMMETRIC,
    ConstUnary,
    DenseCRF,
    DenseCRF2D,
    KernelType,
    NormalizationType,
)
