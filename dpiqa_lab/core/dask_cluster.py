"""The Dask side of ``spread``: clients, and what a worker keeps between two items."""

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

import torch

from .errors import LabError
from .paths import home

try:
    from distributed import Client, KilledWorker, LocalCluster, as_completed, get_worker
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError as missing:
    raise LabError("a cluster needs Dask: pip install 'dpiqa-lab[cluster]'.") from missing

# Items that wait in a worker beside the one it does, so that it is never idle.
_AHEAD = 1
# Seconds that a scheduler may take to answer, and to find its first worker.
PATIENCE = 120
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Desk(WorkerPlugin):
    """What a worker is given once, and again where it takes the place of one that died.

    It computes one item at a time, with as many threads as Dask gave the worker.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.home = str(home())

    def setup(self, worker) -> None:
        """Called by Dask in the worker."""
        self.lock = threading.Lock()
        threads = worker.state.nthreads
        torch.set_num_threads(threads)
        # For what the worker starts, such as a notebook's kernel.
        os.environ.update(dict.fromkeys(_THREADS, str(threads)), DPIQA_HOME=self.home)


def _call(desk: str, item: bytes):
    plugin = get_worker().plugins[desk]
    with plugin.lock:
        return plugin.function(pickle.loads(zlib.decompress(item)))


def on_cluster(
    function: Callable, items: Iterable, cluster: str
) -> Iterator[tuple[object, object]]:
    """See ``spread``."""
    items = iter(items)
    first = list(itertools.islice(items, 1))
    if not first:  # no cluster for nothing
        return
    items = itertools.chain(first, items)
    with open_client(cluster) as client:
        desk = f"dpiqa-lab-{uuid.uuid4().hex[:8]}"
        client.register_plugin(_Desk(function), name=desk)
        waiting, sent = as_completed(), {}

        def send() -> None:
            """As many as keep the workers busy that there are now, one at least."""
            room = (1 + _AHEAD) * len(client.nthreads()) - len(sent)
            for item in itertools.islice(items, max(1, room)):
                # Packed, as a scheduler remembers its last 1,000 messages to each worker. Not pure:
                # equal items are not one.
                packed = zlib.compress(pickle.dumps(item))
                future = client.submit(_call, desk, packed, pure=False)
                sent[future.key] = item
                waiting.add(future)

        try:
            send()
            for future in waiting:
                item, error = sent.pop(future.key), future.exception()
                if isinstance(error, KilledWorker):
                    error = LabError(
                        "each worker that tried it was killed, mostly for want of memory: lower "
                        f"batch_size, or take fewer workers ({error})."
                    )
                result = future.result() if error is None else error
                del future  # Dask forgets the result
                yield item, result
                send()
        finally:
            with contextlib.suppress(Exception):  # the cluster may be what ended
                client.unregister_worker_plugin(desk)


@contextlib.contextmanager
def open_client(cluster: str) -> Iterator[Client]:
    """A client of a cluster, which has at least one worker.

    Args:
        cluster: "local" or "local:4" for so many processes on this machine, which share its cores;
            else a scheduler's address, such as "tcp://10.0.0.5:8786", or the ``.json`` file that it
            was told to write by ``--scheduler-file``.

    Raises:
        LabError: none of these, nobody answers, or no worker comes within two minutes.
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
                    # Dask would end workers by its own idea of memory.
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
