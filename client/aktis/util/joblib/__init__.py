"""joblib on a cluster: what scikit-learn and others run in parallel through joblib runs in actors."""

from typing import Final

BACKEND: Final = "aktis"
COMPATIBLE_BACKEND: Final = "ray"


def register_aktis() -> None:
    """Let joblib know the backend ``"aktis"``, and ``"ray"`` as another name of it.

    Raises:
        ImportError: joblib is not installed.

    Example:
        >>> import joblib
        >>> register_aktis()
        >>> with joblib.parallel_backend("aktis", n_jobs=2):
        ...     joblib.Parallel()(joblib.delayed(pow)(n, 2) for n in range(5))
        [0, 1, 4, 9, 16]
    """
    from joblib.parallel import register_parallel_backend

    from aktis.util.joblib.backend import AktisBackend

    for name in (BACKEND, COMPATIBLE_BACKEND):
        register_parallel_backend(name, AktisBackend)


register_ray = register_aktis
"""The name that programs written for Ray use."""

__all__ = ["register_aktis", "register_ray"]
