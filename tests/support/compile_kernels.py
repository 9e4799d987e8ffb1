"""Compile the Triton kernels for a GPU, on a machine that need not have one.

    PYTHONPATH=tests python -m support.compile_kernels TYPE CAPABILITY ...

The type is that of the maps: fp16, bf16 or fp32; a capability is 75, 80, 90, ... TRITON_INTERPRET
must not be set.
"""

from __future__ import annotations

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from disk_hloc.models import nearest_kernel
from disk_hloc.models.disk_network import kernels

FLOAT, INT = "*fp32", "i32"
# Each kernel's arguments: pointers to maps are None, and take each type of map in turn.
SIGNATURES = {
    "_pool_kernel": [None, None, FLOAT, FLOAT, INT, INT, INT],
    "_doubled_sums_kernel": [None, FLOAT, INT, INT, INT],
    "_normalisation_kernel": [
        FLOAT, None, INT, INT, "fp32", "fp32", FLOAT, None, INT, INT, "fp32",
        FLOAT, FLOAT, INT, "fp32",
    ],
    "_gate_kernel": [None, None, FLOAT, FLOAT, FLOAT, None, INT, INT],
    "_taps_kernel": [None, None, FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, INT, INT],
    "_sum_taps_kernel": [FLOAT, FLOAT, FLOAT, INT, INT],
    "_maxima_kernel": [FLOAT, "*i8", "fp32", INT, INT],
    "_refine_kernel": [FLOAT, "*i64", FLOAT, INT, INT, INT],
    "_greatest_kernel": ["*fp16", "*fp16", FLOAT, "*i64", FLOAT, INT, INT],
    "_patches_kernel": [None, None, FLOAT, FLOAT, FLOAT, "*i64", FLOAT, INT, INT],
}  # fmt: skip
CONSTANTS = {
    "_pool_kernel": {"CHANNELS": 16, "BLOCK": 256},
    "_doubled_sums_kernel": {"CHANNELS": 64, "BLOCK": 64},
    "_normalisation_kernel": {"CHANNELS": 64, "OTHER_CHANNELS": 16, "ROWS": 64},
    "_gate_kernel": {"SMALL_CHANNELS": 64, "CHANNELS": 32, "BLOCK": 64},
    "_taps_kernel": {
        "SMALL_CHANNELS": 64, "CHANNELS": 16, "TAPS": 25, "TAPS_PADDED": 32, "BLOCK": 64
    },
    "_sum_taps_kernel": {"KERNEL": 5, "BLOCK": 256},
    "_maxima_kernel": {"RADIUS": 2, "BLOCK": 256},
    "_refine_kernel": {"TINY": 1.1754943508222875e-38, "BLOCK": 128},
    "_greatest_kernel": {"DIM": 128, "ROWS": 128, "COLUMNS": 128},
    "_patches_kernel": {"SMALL_CHANNELS": 64, "CHANNELS": 16, "KERNEL": 5, "TAPS_PADDED": 32},
}  # fmt: skip


def main() -> None:
    map_type, *capabilities = sys.argv[1:]
    for capability in map(int, capabilities):
        for name, types in SIGNATURES.items():
            kernel = getattr(kernels, name, None) or getattr(nearest_kernel, name)
            given = [one or f"*{map_type}" for one in types]
            signature = dict(zip(kernel.arg_names, given, strict=False))
            signature |= dict.fromkeys(CONSTANTS[name], "constexpr")
            constants = {(kernel.arg_names.index(k),): v for k, v in CONSTANTS[name].items()}
            compiled = triton.compile(
                ASTSource(kernel, signature, constants), target=GPUTarget("cuda", capability, 32)
            )
            print(f"sm_{capability} {name}: {compiled.metadata.shared} bytes of shared memory")


if __name__ == "__main__":
    main()
