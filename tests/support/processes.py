"""Processes that tests kill: ``processes.Process(target=..., args=...)``.

They are forked from a server that has imported everything and computed nothing: starting takes no
time, and no other thread is running. All tests of a worker of pytest have one server, and it
imports what it is told before it starts, so there is one list. The server does not find the
modules of tests/: only installed ones are imported ahead (CPython issue 117378).
"""

from __future__ import annotations

import multiprocessing

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "disk_hloc.pipelines.map_add",
        "disk_hloc.pipelines.map_build",
        "disk_hloc.pipelines.matching",
        "disk_hloc.models.extractors.disk",
        "disk_hloc.models.extractors.opencv_sift",
        "disk_hloc.models.matchers.disk",
        "disk_hloc.train.run",
        "kornia.feature",
        "pytest",
    ]
)
