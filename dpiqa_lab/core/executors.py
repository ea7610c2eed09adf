"""Runs a function on items in this process, or on the workers of a Dask cluster."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")


def run_items(
    function: Callable[[Item], object], items: Iterable[Item], cluster: str | None = None
) -> Iterator[tuple[Item, Any]]:
    """Each item with ``function(item)``, or with the exception raised, in order of completion.

    Args:
        function: sent once to each worker, so that its state (a model) is loaded once per worker.
            An item may run twice if a worker dies, so repeated calls must write the same.
        items: read as workers become free; their number is not limited.
        cluster: ``None`` for this process, else see ``dask_cluster.open_client``.

    Raises:
        LabError: no such cluster.
    """
    if cluster is not None:
        from .dask_cluster import on_cluster

        yield from on_cluster(function, items, cluster)
        return
    for item in items:
        result: object
        try:
            result = function(item)
        except Exception as error:  # noqa: BLE001 - returned, as by a cluster
            result = error
        yield item, result
