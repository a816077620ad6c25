"""The consolidated store under dask.distributed. Workers import this file: it imports little."""
import os
import signal
import time

import numpy as np
import xarray as xr
from distributed import Client, LocalCluster, as_completed
from reference import Zone


def slowly(block):
    time.sleep(0.05)
    return block


def test_worker_killed(few_mount, few, tmp_path):
    """Catches processes that get each other's bytes, and a reader killed in the middle of its work that
    leaves the mount or the other readers waiting: dask does its work again elsewhere."""
    zone, rows, cols = Zone(few, 25), slice(0, 1216), slice(0, 320)
    with xr.open_zarr(few_mount.consolidated(), group="utm25", chunks=None) as dataset, \
            LocalCluster(n_workers=4, threads_per_worker=1, dashboard_address=None, local_directory=tmp_path) as cluster, \
            Client(cluster) as client:
        window = dataset.embeddings[0, :, rows, cols].chunk(y=64, x=64).data.map_blocks(slowly, dtype=np.int8)
        pids = client.run(os.getpid)
        assert len(set(pids.values())) == 4
        blocks = client.compute(window.to_delayed().ravel().tolist())
        done = as_completed(blocks)
        for _ in range(len(blocks) // 4):
            next(done)
        busy = next(worker for worker, tasks in client.processing().items() if tasks)
        os.kill(pids[busy], signal.SIGKILL)
        assert not all(block.done() for block in blocks)
        got = iter(client.gather(blocks))
        assert pids[busy] not in client.run(os.getpid).values()
    got = np.block([[next(got) for _ in window.chunks[2]] for _ in window.chunks[1]])
    assert np.array_equal(got, zone.window(2024, rows, cols)[0])
