"""Where a ``--dask`` option leads: workers of Dask, on this machine or on many.

docs/clusters.md tells how they are started.
"""

from __future__ import annotations

import importlib
import logging
import os
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

# How long the first worker is waited for; a queue of jobs has its own, ``wait`` in its yaml.
WAIT_SECONDS = 60
WAIT_FOR_JOBS_SECONDS = 24 * 3600
# So many workers may die of a task before it is given up.
DEATHS = 3
# What a worker offers and a task on CUDA takes, so that a device has one task at a time.
GPU = "GPU"


def check(spec: str) -> None:
    """Check a ``--dask`` option, before anything is done for it.

    Raises:
        DiskHlocError: it is none, or dask.distributed is not installed.
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
    """Workers, for as long as the context lasts; those that were started for it end with it.

    Args:
        spec: ``local:N``, N processes on this machine; ``tcp://host:port``, the workers of a
            scheduler; or a yaml file of batch jobs (configs/slurm.yaml).
        device: with ``local:N``, where the workers compute: on CUDA each has a GPU of its own.

    Yields:
        A client with one worker at least.

    Raises:
        DiskHlocError: as :func:`check`; more local workers than GPUs; nobody answers; or no
            worker comes in time.
    """
    check(spec)
    from distributed import Client
    from distributed import TimeoutError as DaskTimeoutError

    cluster: Cluster | None = None
    seconds: float = WAIT_SECONDS
    # Workers that are lost are what this is made for; the log of it would bury the progress.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        # Dask sets the variables of the workers that it starts in this process, too.
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
                "mend the address"
            ) from error
        stack.enter_context(client)
        if not client.nthreads():
            logger.info("Waiting for a worker of %s", spec)
        try:
            client.wait_for_workers(1, timeout=seconds)
        except (TimeoutError, DaskTimeoutError) as error:
            raise DiskHlocError(
                f"no worker of {spec} came within {seconds:.0f} seconds: see its log, and "
                "docs/clusters.md for how workers are started"
            ) from error
        yield client


def _restore(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def num_workers(client: Client, spec: str) -> int:
    """How many workers there are, or will be once all jobs run."""
    expected = 1
    if spec.startswith("local:"):
        expected = _local_count(spec)
    elif spec.endswith((".yaml", ".yml")):
        jobs = _read_jobs(Path(spec))
        expected = jobs["jobs"] * jobs.get("processes", 1)
    return max(expected, len(client.nthreads()))


def agreed_device(client: Client, device: str) -> tuple[str, dict[str, float]]:
    """The device of all workers, and what a task on it takes of a worker's resources.

    Args:
        client: with its workers.
        device: as the user gave it; ``auto`` is what all workers have.

    Raises:
        DiskHlocError: a worker lacks disk_hloc, ``auto`` is not the same everywhere, or no worker
            offers a GPU to tasks on CUDA.
    """
    found = client.run(_about, on_error="return")
    for address, about in found.items():
        if isinstance(about, Exception):
            reason = " ".join(str(about).split())
            raise DiskHlocError(
                f"the worker at {address} cannot run disk_hloc ({type(about).__name__}: {reason}): "
                "install the same version of it there, with all that it needs"
            ) from about
        if about["versions"] != _about()["versions"]:
            logger.warning(
                "The worker at %s has %s, and here is %s: results may differ",
                address, about["versions"], _about()["versions"],
            )  # fmt: skip
    if max(client.nthreads().values(), default=1) > 1:
        logger.warning(
            "Workers of several threads run so many tasks at once in one process: --nthreads 1 is "
            "faster, with a part of the cores for each in OMP_NUM_THREADS"
        )
    if device == "auto":
        kinds = Counter(about["device"] for about in found.values())
        if len(kinds) > 1:
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            raise DiskHlocError(
                f"the workers have different devices ({listed}), and results would depend on who "
                "computes them: give --device cuda or --device cpu"
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
    """What a worker is."""
    return {
        "device": devices.resolve("auto").type,
        "versions": {"disk_hloc": __version__, "torch": torch.__version__},
    }


def _local_count(spec: str) -> int:
    text = spec.removeprefix("local:")
    if not text.isdecimal() or int(text) == 0:
        raise DiskHlocError(f"--dask {spec}: how many processes? local:4, for example")
    return int(text)


def _local(count: int, device: torch.device) -> Cluster:
    """Processes of one thread for tasks, and a fair part of the cores for torch."""
    import dask
    from distributed import Nanny, Scheduler
    from distributed.deploy.spec import SpecCluster

    gpus = _visible_gpus() if device.type == "cuda" else []
    if device.type == "cuda" and device.index is not None:
        raise DiskHlocError(
            f"--device {device} with --dask local:{count}: each worker has a GPU of its own, so "
            "give --device cuda, and choose the GPUs by CUDA_VISIBLE_DEVICES"
        )
    if device.type == "cuda" and count > len(gpus):
        raise DiskHlocError(
            f"--dask local:{count}: this machine shows {len(gpus)} GPUs, and each worker takes "
            f"one: local:{len(gpus)}, or --device cpu"
        )
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _cores() // count))
    environment: dict[str, str | None] = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        # The progress of all is shown here.
        "TQDM_DISABLE": "1",
        # Dask's 64 kB would have torch ask the system for the memory of each image anew.
        "MALLOC_TRIM_THRESHOLD_": None,
    }
    options = {
        # From outside of the machine nobody can reach them.
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "nthreads": 1,
        # Dask would stop or kill a worker at its part of the memory; a run without it has no limit.
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        # Ctrl-C goes to all processes of a terminal; it is the driver that ends its workers.
        "preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
    }
    own: list[dict[str, Any]] = [{} for _ in range(count)]
    if gpus:
        own = [{"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {GPU: 1}} for gpu in gpus]
    workers = {i: {"cls": Nanny, "options": options | own[i]} for i in range(count)}
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": DEATHS,
        },
    }
    # A worker that was killed leaves a semaphore, which is taken away and not worth a word.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    before_spawn = "distributed.nanny.pre-spawn-environ"
    with dask.config.set({f"{before_spawn}.{key}": value for key, value in environment.items()}):
        return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


def _visible_gpus() -> list[str]:
    """The devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(i) for i in range(count)]


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _jobs(path: Path) -> tuple[Cluster, float]:
    """A cluster of batch jobs, and for how many seconds its first worker is waited for."""
    options = _read_jobs(path)
    name, jobs = options.pop("cluster"), options.pop("jobs")
    seconds = options.pop("wait", WAIT_FOR_JOBS_SECONDS)
    module, _, class_name = name.rpartition(".")
    _require("dask_jobqueue")
    try:
        factory = getattr(importlib.import_module(module or "dask_jobqueue"), class_name)
    except (ImportError, AttributeError) as error:
        raise DiskHlocError(
            f"{path}: there is no cluster {name}; dask_jobqueue has SLURMCluster, PBSCluster, ..."
        ) from error
    try:
        cluster = factory(**options)
        # Unlike scale() this replaces jobs that come to the end of their time.
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"{path}: {name} cannot be started: {reason}") from error
    return cluster, seconds


def _read_jobs(path: Path) -> dict[str, Any]:
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(f"cannot read the cluster {path}: {reason}") from error
    missing = [key for key in ("cluster", "jobs") if key not in (options or {})]
    if not isinstance(options, Mapping) or missing:
        raise DiskHlocError(
            f"the cluster {path} lacks {', '.join(missing)}: see configs/slurm.yaml"
        )
    if not isinstance(options["jobs"], int) or options["jobs"] < 1:
        raise DiskHlocError(f"{path}: jobs is {options['jobs']!r}, but must be a number from 1")
    return dict(options)


def _require(module: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise DiskHlocError(
            f"--dask needs {module} ({error}): pip install 'disk_hloc[dask]'"
        ) from error
