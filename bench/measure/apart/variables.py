"""The environment variables that a system's process is given: those that Python, numerical libraries and the bench
read.

`nursery_client` passes them to the nursery and to each process. All others stay with the user. They may hold passwords
or tokens, and what a system prints or says of itself is kept in the run's folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAMES = frozenset(
    "PATH HOME USER LOGNAME LANG LANGUAGE TZ TERM COLUMNS TMPDIR TEMP TMP VIRTUAL_ENV CONDA_PREFIX".split()
)
#: How the names of further ones begin.
_FAMILIES = (
    "LC_", "PYTHON", "LD_", "DYLD_", "GLIBC_", "MALLOC_", "XDG_", "BENCH_",
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "ONEDNN_", "DNNL_", "NUMEXPR_", "NUMBA_", "NPY_",
    "TORCH", "PYTORCH_", "TRITON_", "CUDA", "CUDNN", "CUBLAS", "NVIDIA_", "NCCL_", "ROCR_", "HIP_", "HSA_",
    "XLA_", "JAX_", "TF_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_", "TOKENIZERS_", "MPL",
)  # fmt: skip
#: Words of a name that speak of a secret, also in these families, also at the end of longer words (HF_APIKEY).
_SECRET = re.compile(
    r"SECRET|PASSW|PASSPHRASE|PASSCODE|CREDENTIAL|AUTH|COOKIE|BEARER|JWT|(?:TOKENS?|KEYS?|(?:^|_)(?:PASS|PWD))(?:_|$)",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"://[^/\s]*@")  # in a value: an address with a password
#: Workers have it, and the command does not: in both, a program that a system starts shall find its own modules.
_OF_WORKERS = ("PYTHONSAFEPATH",)


def passed(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environment` that a system's process is given."""
    return {
        name: value
        for name, value in environment.items()
        if (name in _NAMES or name.startswith(_FAMILIES))
        and name not in _OF_WORKERS
        and not _SECRET.search(name)
        and not _LOGIN.search(value)
    }
