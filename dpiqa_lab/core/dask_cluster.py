"""Dask clusters for ``run_items``: clients and workers."""

import contextlib
import itertools
import logging
import os
import pickle
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from .errors import LabError
from .paths import home

try:
    from distributed import (
        Client,
        KilledWorker,
        LocalCluster,
        Worker,
        as_completed,
        get_worker,
    )  # fmt: skip
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError as missing:
    raise LabError("a cluster needs Dask: pip install 'dpiqa-lab[cluster]'.") from missing

Item = TypeVar("Item")

# Items that wait in each worker, so that it is never idle.
_AHEAD = 1
# Seconds within which a scheduler must answer, and find its first worker.
PATIENCE = 120
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Task(WorkerPlugin):
    """Sent to each worker once, also to the replacement of a worker that ended.

    Computes one item at a time, with the threads that Dask assigned to the worker.
    """

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.lock: threading.Lock | None = None  # made in the worker, as it cannot be pickled
        self.home = str(home())

    def setup(self, worker: Worker) -> None:
        """Prepare the worker; called by Dask in it."""
        self.lock = threading.Lock()
        threads = worker.state.nthreads
        torch.set_num_threads(threads)
        # For processes started by the worker, such as a notebook's kernel.
        os.environ.update(dict.fromkeys(_THREADS, str(threads)), DPIQA_HOME=self.home)


def _call(name: str, item: bytes) -> object:
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, _Task)
    assert plugin.lock is not None
    with plugin.lock:
        return plugin.function(pickle.loads(zlib.decompress(item)))


def on_cluster(
    function: Callable[[Item], object], items: Iterable[Item], cluster: str
) -> Iterator[tuple[Item, object]]:
    """See ``executors.run_items``."""
    items = iter(items)
    first = list(itertools.islice(items, 1))
    if not first:  # start no cluster without items
        return
    items = itertools.chain(first, items)
    with open_client(cluster) as client:
        name = f"dpiqa-lab-{uuid.uuid4().hex[:8]}"
        client.register_plugin(_Task(function), name=name)
        waiting = as_completed()
        sent: dict[object, Item] = {}

        def send() -> None:
            """Submit items until the present workers are busy, at least one."""
            room = (1 + _AHEAD) * len(client.nthreads()) - len(sent)
            for item in itertools.islice(items, max(1, room)):
                # Compressed, as a scheduler stores its last 1,000 messages to each worker. Not
                # pure: equal items are separate.
                packed = zlib.compress(pickle.dumps(item))
                future = client.submit(_call, name, packed, pure=False)
                sent[future.key] = item
                waiting.add(future)

        try:
            send()
            for future in waiting:
                item, error = sent.pop(future.key), future.exception()
                if isinstance(error, KilledWorker):
                    error = LabError(
                        "each worker that tried it was killed, usually for lack of memory: lower "
                        f"batch_size, or use fewer workers ({error})."
                    )
                result = future.result() if error is None else error
                del future  # so that Dask releases the result
                yield item, result
                send()
        finally:
            with contextlib.suppress(Exception):  # the cluster may have ended
                client.unregister_worker_plugin(name)


@contextlib.contextmanager
def open_client(cluster: str) -> Iterator[Client]:
    """A client of a cluster with at least one worker.

    Args:
        cluster: "local" or "local:4", processes on this machine that share its cores; else a
            scheduler's address, such as "tcp://10.0.0.5:8786", or the ``.json`` file that it writes
            by ``--scheduler-file``.

    Raises:
        LabError: another text, no answer, or no worker within two minutes.
    """
    kind, _, count = cluster.partition(":")
    with contextlib.ExitStack() as stack:
        if kind == "local":
            cores = os.cpu_count() or 1
            if count and (not count.isdigit() or int(count) < 1):
                raise LabError(f"cluster local:N needs a number of workers, got {cluster!r}.")
            workers = int(count) if count else max(2, cores // 4)
            given = stack.enter_context(
                LocalCluster(
                    n_workers=workers,
                    threads_per_worker=max(1, cores // workers),
                    # Dask would end workers by its own estimate of memory.
                    memory_limit=0,
                    dashboard_address=":0",  # any free port
                    silence_logs=logging.CRITICAL,
                )
            )
        elif cluster.endswith(".json"):
            if not Path(cluster).expanduser().is_file():
                raise LabError(f"cluster: no scheduler file {cluster}.")
            given = None
        elif "://" in cluster:
            given = cluster
        else:
            raise LabError(
                f"unknown cluster {cluster!r}: expected local, local:2, a scheduler's address such "
                "as tcp://host:8786, or its .json file."
            )
        file = None if given else str(Path(cluster).expanduser())
        try:
            client = stack.enter_context(Client(given, scheduler_file=file, timeout=PATIENCE))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            raise LabError(f"cluster {cluster}: {error or 'no answer'}.") from error
        yield client
