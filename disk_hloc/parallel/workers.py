"""The workers of a ``--dask`` option, on this machine or on many.

See docs/clusters.md for how they are started.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from disk_hloc import __version__
from disk_hloc import device as devices
from disk_hloc.errors import DiskHlocError
from disk_hloc.log import logger

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

# How long to wait for the first worker; batch jobs have their own time, ``wait`` in the yaml file.
WAIT_SECONDS = 60
WAIT_FOR_JOBS_SECONDS = 24 * 3600
# A task is given up if more workers than these die of it.
MAX_DEATHS = 3
# The resource that a worker offers and a task on CUDA takes, so that a GPU has one task at a time.
GPU = "GPU"


def check(spec: str) -> None:
    """Check a ``--dask`` option before anything is started for it.

    Raises:
        DiskHlocError: the option is unknown, or dask.distributed is not installed.
    """
    if spec.startswith("local:"):
        _local_count(spec)
    elif spec.endswith((".yaml", ".yml")):
        _read_jobs(Path(spec))
    elif not spec.startswith(("tcp://", "tls://")):
        raise DiskHlocError(
            f"--dask {spec} is not known: local:N (N processes here), tcp://HOST:PORT (a running "
            "scheduler) or a .yaml file of batch jobs"
        )
    _require("distributed")


@contextmanager
def connected(spec: str, device: str = "auto") -> Iterator[Client]:
    """Connect to workers while the context lasts; those that it started end with it.

    Args:
        spec: ``local:N``, N processes on this machine; ``tcp://host:port``, the workers of a
            scheduler; or a yaml file of batch jobs (configs/slurm.yaml).
        device: with ``local:N``, the device of the workers; on CUDA each has its own GPU.

    Yields:
        A client with at least one worker.

    Raises:
        DiskHlocError: as :func:`check`; there are more local workers than GPUs; no scheduler
            answers; or no worker appears within the waiting time.
    """
    check(spec)
    from distributed import Client
    from distributed import TimeoutError as DaskTimeoutError

    cluster: Cluster | None = None
    seconds: float = WAIT_SECONDS
    # Lost workers are expected, and their log messages would hide the progress.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        # Dask sets the environment of the workers that it starts in this process, too.
        stack.callback(_restore, dict(os.environ))
        if spec.startswith("local:"):
            cluster = stack.enter_context(_local(_local_count(spec), devices.resolve(device)))
        elif not spec.startswith(("tcp://", "tls://")):
            started, seconds = _jobs(Path(spec))
            cluster = stack.enter_context(started)
        try:
            client = Client(cluster or spec, timeout=WAIT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise DiskHlocError(
                f"no Dask scheduler answers at {spec} ({reason}): start `dask scheduler` there, or "
                "correct the address"
            ) from error
        stack.enter_context(client)
        if not client.nthreads():
            logger.info("Waiting for a worker of %s", spec)
        try:
            client.wait_for_workers(1, timeout=seconds)
        except (TimeoutError, DaskTimeoutError) as error:
            raise DiskHlocError(
                f"no worker of {spec} appeared within {seconds:.0f} seconds: see its log, and "
                "docs/clusters.md for how workers are started"
            ) from error
        yield client


def _restore(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def num_workers(client: Client, spec: str) -> int:
    """Return how many workers there are, or will be once all jobs run."""
    expected = 1
    if spec.startswith("local:"):
        expected = _local_count(spec)
    elif spec.endswith((".yaml", ".yml")):
        jobs = _read_jobs(Path(spec))
        expected = jobs["jobs"] * jobs.get("processes", 1)
    return max(expected, len(client.nthreads()))


def agreed_device(client: Client, device: str) -> tuple[str, dict[str, float]]:
    """Return the device of all workers, and the resources of a worker that a task takes.

    Args:
        client: with its workers.
        device: as the user gave it; ``auto`` is the device that all workers have.

    Raises:
        DiskHlocError: a worker cannot import disk_hloc, ``auto`` is not the same on all workers, or
            no worker offers a GPU for tasks on CUDA.
    """
    found = client.run(_about, on_error="return")
    for address, about in found.items():
        if isinstance(about, Exception):
            reason = " ".join(str(about).split())
            raise DiskHlocError(
                f"the worker at {address} cannot run disk_hloc ({type(about).__name__}: {reason}): "
                "install the same version there, with its dependencies"
            ) from about
        if about["versions"] != _about()["versions"]:
            logger.warning(
                "The worker at %s has %s, and here is %s: results may differ",
                address, about["versions"], _about()["versions"],
            )  # fmt: skip
    if max(client.nthreads().values(), default=1) > 1:
        logger.warning(
            "Workers with several threads run several tasks in one process: it is faster to start "
            "them with --nthreads 1 and their share of the cores in OMP_NUM_THREADS"
        )
    if device == "auto":
        kinds = Counter(about["device"] for about in found.values())
        if len(kinds) > 1:
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            raise DiskHlocError(
                f"the workers have different devices ({listed}), and results would depend on which "
                "worker computes them: give --device cuda or --device cpu"
            )
        (device,) = kinds
    if not device.startswith("cuda"):
        return device, {}
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(GPU) for worker in workers):
        raise DiskHlocError(
            "no worker offers a GPU: start one for each with CUDA_VISIBLE_DEVICES=0 dask worker "
            f"... --nthreads 1 --resources {GPU}=1, or give --device cpu"
        )
    return device, {GPU: 1}


def _about() -> dict[str, Any]:
    """Return the device and the versions of a worker."""
    return {
        "device": devices.resolve("auto").type,
        "versions": {"disk_hloc": __version__, "torch": torch.__version__},
    }


def _local_count(spec: str) -> int:
    text = spec.removeprefix("local:")
    if not text.isdecimal() or int(text) == 0:
        raise DiskHlocError(f"--dask {spec}: how many processes? For example, local:4")
    return int(text)


def _local(count: int, device: torch.device) -> Cluster:
    """Start processes with one thread for tasks and an equal share of the cores for torch."""
    import dask
    from distributed import Nanny, Scheduler
    from distributed.deploy.spec import SpecCluster

    gpus = _visible_gpus() if device.type == "cuda" else []
    if device.type == "cuda" and device.index is not None:
        raise DiskHlocError(
            f"--device {device} with --dask local:{count}: each worker has its own GPU, so "
            "give --device cuda, and choose GPUs with CUDA_VISIBLE_DEVICES"
        )
    if device.type == "cuda" and count > len(gpus):
        raise DiskHlocError(
            f"--dask local:{count}: this machine has {len(gpus)} GPUs, and each worker needs "
            f"one: use local:{len(gpus)}, or --device cpu"
        )
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _cores() // count))
    environment: dict[str, str | None] = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        # The driver shows the progress of all.
        "TQDM_DISABLE": "1",
        # With Dask's 64 kB, torch would request the memory of each image from the system again.
        "MALLOC_TRIM_THRESHOLD_": None,
    }
    options = {
        # They cannot be reached from outside of this machine.
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "nthreads": 1,
        # Dask would pause or kill workers that use more than their share; one process has no limit.
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        # Ctrl-C goes to all processes of a terminal, but the driver ends its workers itself.
        "preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    }
    own: list[dict[str, Any]] = [{} for _ in range(count)]
    if gpus:
        own = [{"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {GPU: 1}} for gpu in gpus]

    class Started(Nanny):
        """Starts its worker with Ctrl-C blocked: the preload may come too late."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if hasattr(signal, "pthread_sigmask"):  # not on Windows
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            super().__init__(*args, **kwargs)

    workers = {i: {"cls": Started, "options": options | own[i]} for i in range(count)}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": MAX_DEATHS,
        },
    }
    # A killed worker leaves a semaphore; its removal needs no warning.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    before_spawn = "distributed.nanny.pre-spawn-environ"
    with dask.config.set({f"{before_spawn}.{key}": value for key, value in environment.items()}):
        return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


def _visible_gpus() -> list[str]:
    """Return the GPUs of this process, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _jobs(path: Path) -> tuple[Cluster, float]:
    """Start a cluster of batch jobs; return it, and the seconds to wait for its first worker."""
    options = _read_jobs(path)
    name, jobs = options.pop("cluster"), options.pop("jobs")
    seconds = options.pop("wait", WAIT_FOR_JOBS_SECONDS)
    module, _, class_name = name.rpartition(".")
    try:
        with _interrupts_kept():
            _require("dask_jobqueue")
            factory = getattr(importlib.import_module(module or "dask_jobqueue"), class_name)
    except (ImportError, AttributeError) as error:
        raise DiskHlocError(
            f"{path}: there is no cluster class {name}; dask_jobqueue has SLURMCluster, ..."
        ) from error
    try:
        cluster = factory(**options)
        # Unlike scale(), this replaces jobs that reach their time limit.
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"{path}: {name} cannot be started: {reason}") from error
    return cluster, seconds


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Keep the handler of Ctrl-C: dask_jobqueue installs one, which exits, when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _read_jobs(path: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read the cluster {path}: {reason}") from error
    missing = [key for key in ("cluster", "jobs") if key not in (options or {})]
    if not isinstance(options, Mapping) or missing:
        raise DiskHlocError(
            f"the cluster {path} has no {', '.join(missing)}: see configs/slurm.yaml"
        )
    if not isinstance(options["jobs"], int) or options["jobs"] < 1:
        raise DiskHlocError(f"{path}: jobs is {options['jobs']!r}, but must be at least 1")
    return dict(options)


def _require(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise DiskHlocError(
            f"--dask needs {module} ({error}): pip install 'disk_hloc[dask]'"
        ) from error
