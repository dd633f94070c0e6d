"""Names of accelerators, as values of the option ``accelerator_type``.

A name that is not here does as well: a node offers the type of the GPUs that it finds, and what its resources
say (``{"accelerator_type:NAME": 1}``).

Example:
    >>> @aktis.remote(accelerator_type=NVIDIA_TESLA_V100)
    ... def train() -> None: ...
"""

from typing import Final

NVIDIA_A100: Final = "A100"
NVIDIA_H100: Final = "H100"
NVIDIA_L4: Final = "L4"
NVIDIA_TESLA_A10G: Final = "A10G"
NVIDIA_TESLA_K80: Final = "K80"
NVIDIA_TESLA_P100: Final = "P100"
NVIDIA_TESLA_P4: Final = "P4"
NVIDIA_TESLA_T4: Final = "T4"
NVIDIA_TESLA_V100: Final = "V100"
AMD_INSTINCT_MI100: Final = "AMD-Instinct-MI100"
AMD_INSTINCT_MI210: Final = "AMD-Instinct-MI210"
AMD_INSTINCT_MI250: Final = "AMD-Instinct-MI250X-MI250"
AMD_RADEON_HD_7900: Final = "AMD-Radeon-HD-7900"
AMD_RADEON_R9_200_HD_7900: Final = "AMD-Radeon-R9-200-HD-7900"
APPLE_M1: Final = "M1"
APPLE_M1_MAX: Final = "M1-Max"
APPLE_M1_PRO: Final = "M1-Pro"
APPLE_M1_ULTRA: Final = "M1-Ultra"
APPLE_M2: Final = "M2"
APPLE_M2_MAX: Final = "M2-Max"
APPLE_M2_PRO: Final = "M2-Pro"
APPLE_M2_ULTRA: Final = "M2-Ultra"
APPLE_M3: Final = "M3"
APPLE_M3_MAX: Final = "M3-Max"
APPLE_M3_PRO: Final = "M3-Pro"
APPLE_SILICON: Final = "Apple-Silicon"
AWS_NEURON_CORE: Final = "aws-neuron-core"
GOOGLE_TPU_V2: Final = "TPU-V2"
GOOGLE_TPU_V3: Final = "TPU-V3"
GOOGLE_TPU_V4: Final = "TPU-V4"
GOOGLE_TPU_V5LITEPOD: Final = "TPU-V5LITEPOD"
GOOGLE_TPU_V5P: Final = "TPU-V5P"
GOOGLE_TPU_V6E: Final = "TPU-V6E"
GOOGLE_TPU_V7X: Final = "TPU-V7X"
INTEL_GAUDI: Final = "Intel-GAUDI"
INTEL_MAX_1100: Final = "Intel-GPU-Max-1100"
INTEL_MAX_1550: Final = "Intel-GPU-Max-1550"
METAX_C500: Final = "MXC500"
METAX_C550: Final = "MXC550"
MOBILINT_ARIES: Final = "MOBILINT_ARIES"
MOBILINT_REGULUS: Final = "MOBILINT_REGULUS"
