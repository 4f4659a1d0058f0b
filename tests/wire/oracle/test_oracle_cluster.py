"""The oracle in front of a cluster, seeded: no request reaches a tenant that is not the token's, in either lane."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.support.oracle.cluster import ClusterOracle, start_cluster_oracle
from tests.support.oracle.single_node import Asker, seeded

SEED = 20
READS = 1000


@pytest.fixture(scope="module")
def oracle() -> Iterator[ClusterOracle]:
    with start_cluster_oracle() as started:
        yield started


def test_no_answer_shows_or_depends_on_what_is_another_tenants(oracle: ClusterOracle) -> None:
    verdicts = oracle.read(seeded(SEED), READS)
    assert verdicts.faults == []
    for lane in oracle.lanes:
        assert verdicts.statuses[f"{lane} 200"] > READS / 10, "a fair part of it was admitted"
        assert verdicts.statuses[f"{lane} 403"] > READS / 10, "a fair part of it named another tenant"
    # The oracle can fail: a quarter of these requests also went to the cluster itself, and there they do show it.
    assert verdicts.shown_directly > READS / 250


def test_an_answer_of_another_tenant_is_found(oracle: ClusterOracle) -> None:
    """A token of the other tenant: all laws are broken, and the oracle says so."""
    other = oracle.mint({"tenant_id": {"account_id": 15}})
    seeing = dataclasses.replace(oracle, tokens={"tenant": other})
    faults = seeing.read(seeded(SEED), 100).faults
    for law in ("shows a mark", "depends on", "reached the cluster"):
        assert any(law in fault for fault in faults), law


def test_no_row_is_written_for_another_tenant(oracle: ClusterOracle) -> None:
    before = oracle.others()
    verdicts = oracle.write(seeded(SEED), 400, "hostile")
    assert verdicts.faults == []
    assert oracle.others() == before
    assert len(oracle.rows("hostile")) > 30, "a fair part of it was admitted"
    with Asker(oracle.written.unwatched_port) as direct:
        rng = seeded(SEED)
        for number in range(200):
            direct.ask(oracle.write_request(rng, f"direct_{number}"), None)
    assert oracle.strays("direct") != [], "the same requests can do it"


def test_no_delete_takes_another_tenants_series(oracle: ClusterOracle) -> None:
    assert oracle.others() != []
    verdicts = oracle.delete(seeded(SEED), 400)
    assert verdicts.faults == []
    assert verdicts.statuses["fast 204"] > 10
    before = oracle.others()
    with Asker(oracle.written.unwatched_port) as direct:
        rng = seeded(SEED)
        for _ in range(400):
            direct.ask(oracle.delete_request(rng), None)
    assert oracle.others() != before, "the same requests can do it"
