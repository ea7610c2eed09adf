"""Work spread over the workers of a Dask cluster, or done here one item after another."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def run_items(
    function: Callable[[Item], object], items: Iterable[Item], cluster: str | None = None
) -> Iterator[tuple[Item, object]]:
    """Each item with ``function(item)``, or with the exception that it raised, as they end.

    Args:
        function: reaches each worker once, one that takes a dead one's place too, so what it keeps
            (a model) is loaded once a worker. An item may be done twice where a worker dies: what
            it writes must be the same then, and a second time should find the first's.
        items: taken as workers get free, so that there may be any number of them.
        cluster: ``None`` for this process, else see ``cluster.open_client``.

    Raises:
        LabError: no such cluster.
    """
    if cluster is not None:
        from .dask_cluster import on_cluster

        yield from on_cluster(function, items, cluster)
        return
    for item in items:
        try:
            result = function(item)
        except Exception as error:  # as a cluster hands it over
            result = error
        yield item, result
