"""A scheduler for Dask: its graphs run as tasks of the cluster, its collections need not change."""

from aktis.util.dask.scheduler import (  # first: it says so when Dask is missing
    aktis_dask_get,
    aktis_dask_persist,
    disable_dask_on_aktis,
    disable_dask_on_ray,
    enable_dask_on_aktis,
    enable_dask_on_ray,
    ray_dask_get,
    ray_dask_get_sync,
    ray_dask_persist,
)

from aktis.util.dask.hooks import AktisDaskCallback  # isort: skip

RayDaskCallback = AktisDaskCallback

__all__ = [
    "AktisDaskCallback",
    "RayDaskCallback",
    "aktis_dask_get",
    "aktis_dask_persist",
    "disable_dask_on_aktis",
    "disable_dask_on_ray",
    "enable_dask_on_aktis",
    "enable_dask_on_ray",
    "ray_dask_get",
    "ray_dask_get_sync",
    "ray_dask_persist",
]
