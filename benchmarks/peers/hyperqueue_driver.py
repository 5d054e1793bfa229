"""Run by .peers/bin/python: what PyPI has of HyperQueue is its Python API, with server and worker in one process.

hyperqueue_driver.py launch DIRECTORY COUNT CPUS WORD...   prints seconds from submit to the end of the last task
hyperqueue_driver.py fan DIRECTORY COUNT CPUS WORD...      until SIGTERM, which stops the worker and with it its tasks
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from hyperqueue import Job  # type: ignore[import-not-found]
from hyperqueue.cluster import LocalCluster, WorkerConfig  # type: ignore[import-not-found]


def main(what: str, directory: str, count: str, cpus: str, *words: str) -> None:
    place = os.path.join(directory, "hq")
    os.mkdir(place)
    cluster = LocalCluster(place, WorkerConfig(cores=int(cpus)))
    client = cluster.client()
    job = Job()
    for i in range(int(count)):
        job.program(list(words), stdout=f"{place}/{i}.o", stderr=f"{place}/{i}.e", cwd=directory)

    def stop(*_: object) -> None:
        cluster.stop()
        with contextlib.suppress(ChildProcessError):  # until there is none: its end would be theirs
            while True:
                os.waitid(os.P_ALL, 0, os.WEXITED)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    began = time.perf_counter()
    submitted = client.submit(job)
    if what == "launch":
        client.connection.wait_for_jobs((submitted.id,), lambda jobs: None)
        print(time.perf_counter() - began, flush=True)
        stop()
    while True:
        signal.pause()


main(*sys.argv[1:])
