"""The private cluster itself does what the other tests of this directory rely on."""

from __future__ import annotations

from pathlib import Path

from support.cluster import NODES, Cluster


def test_three_nodes_are_idle(cluster: Cluster) -> None:
    assert [cluster.node(name)["State"] for name in NODES] == ["IDLE", "IDLE", "IDLE"]


def test_a_job_on_each_node_sees_a_host_name_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    jobs = [cluster.sbatch("hostname", f"--nodelist={node}", cwd=tmp_path) for node in NODES]
    assert [cluster.wait_for_end(job) for job in jobs] == ["COMPLETED"] * 3
    assert [cluster.output(job).strip() for job in jobs] == list(NODES)


def test_steps_from_a_batch_script_reach_other_nodes_and_back(cluster: Cluster, tmp_path: Path) -> None:
    job = cluster.sbatch('echo in | srun --label bash -c "hostname; cat"', "--nodes=3", cwd=tmp_path)
    assert cluster.wait_for_end(job) == "COMPLETED"
    said = sorted(cluster.output(job).splitlines())
    assert said == ["0: in", "0: node1", "1: in", "1: node2", "2: in", "2: node3"]
