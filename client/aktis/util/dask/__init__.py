"""A scheduler for Dask: its graphs run as tasks of the cluster, its collections need not change."""

from aktis.util.dask.scheduler import (
    aktis_dask_get,
    disable_dask_on_aktis,
    disable_dask_on_ray,
    enable_dask_on_aktis,
    enable_dask_on_ray,
    ray_dask_get,
)

__all__ = [
    "aktis_dask_get",
    "disable_dask_on_aktis",
    "disable_dask_on_ray",
    "enable_dask_on_aktis",
    "enable_dask_on_ray",
    "ray_dask_get",
]
