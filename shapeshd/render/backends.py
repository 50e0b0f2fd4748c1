"""joblib's back ends, started and named: this machine's processes or threads, Dask, Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import joblib

from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.support.distributed import core_count

BACKENDS = ("loky", "threading", "dask", "ray")


class WorkerDied(Exception):
    """A worker was killed; its shards can be rendered again."""


@contextmanager
def parallel_backend(backend: str, jobs: int | None, cluster: str | None) -> Iterator[int]:
    """Make `backend` the one that `joblib.Parallel` uses; yields the number of workers.

    Args:
        backend: one of `BACKENDS`.
        jobs: workers; by default one for each core, or for each worker of a cluster.
        cluster: address of a Dask scheduler or a Ray head; by default one is started here.

    Raises:
        UsageError: if the arguments do not fit together.
        MissingPackageError: if the back end's package is not installed.
        ShapesHDError: if the cluster cannot be reached.
        WorkerDied: from the body, if a worker died.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}")
    if cluster is not None and backend not in ("dask", "ray"):
        raise UsageError("--cluster goes with --backend dask or ray")
    if backend == "loky":
        prepare = {"initializer": _prepare_worker, "initargs": (os.getpid(),)}
        with joblib.parallel_config(backend, **prepare), _deaths(_loky_deaths()):
            yield jobs or core_count()
    elif backend == "threading":
        with joblib.parallel_config(backend):
            yield jobs or core_count()
    elif backend == "dask":
        with _dask(jobs, cluster) as workers:
            yield workers
    elif backend == "ray":
        with _ray(jobs, cluster) as workers:
            yield workers
    else:
        raise UsageError(f"unknown backend {backend!r}: choose {', '.join(BACKENDS)}")


def _prepare_worker(parent: int) -> None:
    """Leave Ctrl-C to the run that is this process's parent, and do not outlive it.

    A killed run cannot end its workers, and they would go on for nobody.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def _deaths(kinds: tuple[type[BaseException], ...]) -> Iterator[None]:
    try:
        yield
    except kinds as error:
        raise WorkerDied(str(error) or type(error).__name__) from error


def _loky_deaths() -> tuple[type[BaseException], ...]:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    return (BrokenProcessPool,)  # TerminatedWorkerError is one


@contextmanager
def _dask(jobs: int | None, cluster: str | None) -> Iterator[int]:
    try:
        import distributed
    except ImportError:
        raise MissingPackageError.of("distributed", "dask", "--backend dask") from None
    with ExitStack() as stack:
        if cluster is None:
            workers = jobs or core_count()
            local = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            )
            address: Any = stack.enter_context(local)
        else:
            address = cluster
        try:
            client = stack.enter_context(distributed.Client(address, timeout=30))
        except (OSError, ValueError) as error:
            raise ShapesHDError(f"no Dask scheduler answers at {cluster}: {error}") from None
        workers = jobs or sum(client.nthreads().values())
        if not workers:
            raise ShapesHDError(f"the Dask scheduler at {cluster} has no workers")
        stack.enter_context(_deaths((distributed.KilledWorker,)))
        stack.enter_context(joblib.parallel_config(backend="dask"))
        yield workers


def _check_reachable(cluster: str | None) -> None:
    """Raise OSError if nothing listens at HOST:PORT; other kinds of address are Ray's own."""
    host, _, port = (cluster or "").rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _ray(jobs: int | None, cluster: str | None) -> Iterator[int]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise MissingPackageError.of("ray", "ray", "--backend ray") from None
    started = not ray.is_initialized()
    try:
        _check_reachable(cluster)  # Ray itself would try for minutes
        if started:
            ray.init(
                address=cluster,
                num_cpus=(jobs or core_count()) if cluster is None else None,
                include_dashboard=None if cluster else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        raise ShapesHDError(f"no Ray cluster answers at {cluster}: {error}") from None
    register_ray()
    workers = jobs or int(ray.cluster_resources().get("CPU", 1))
    try:
        with (
            _deaths((ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError)),
            joblib.parallel_config(backend="ray"),
        ):
            yield workers
    finally:
        if started:
            ray.shutdown()
