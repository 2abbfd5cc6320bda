"""The session's private SLURM cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kd_dist.config.paths import REPOSITORY, python_path
from tests.slurm.cluster import PrivateCluster, missing, search_path, without_outer_job

NOT_INSTALLED = "SLURM is not installed here: run tests/slurm/install.sh (Debian packages)"


@pytest.fixture(scope="session")
def slurm_installed() -> None:
    """For tests that start clusters of their own; KD_DIST_REQUIRE_SLURM=1 keeps a CI run from skipping them unseen."""
    if lacking := missing():
        if os.environ.get("KD_DIST_REQUIRE_SLURM") == "1":
            pytest.fail(f"{NOT_INSTALLED}; KD_DIST_REQUIRE_SLURM=1, but missing: {', '.join(lacking)}")
        pytest.skip(NOT_INSTALLED)


@pytest.fixture(scope="session")
def slurm(slurm_installed: None) -> Iterator[PrivateCluster]:
    """A running cluster that is also the one all SLURM commands and submitit find through the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - without_outer_job(os.environ).keys():
            patch.delenv(name)
        with PrivateCluster() as cluster:
            patch.setenv("SLURM_CONF", str(cluster.conf))
            patch.setenv("PATH", search_path())
            # A job imports its callable by name, and pytest's additions to sys.path stay behind.
            patch.setenv("PYTHONPATH", python_path(REPOSITORY))
            speed_up_submitit(patch)
            yield cluster


def speed_up_submitit(patch: pytest.MonkeyPatch) -> None:
    """submitit asks sacct ever more rarely, and waits 15 s for the result of a job that died without one."""
    submitit = pytest.importorskip("submitit")
    patch.setattr(submitit.Job, "_results_timeout_s", 1)
    patch.setattr(submitit.SlurmJob.watcher, "_delay_s", 2)
