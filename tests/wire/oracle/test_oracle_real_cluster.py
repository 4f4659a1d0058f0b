"""The oracle in front of a real cluster, seeded. scripts/oracle --cluster goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.oracle.real_cluster import RealClusterOracle, start_real_cluster_oracle
from tests.support.oracle.single_node import seeded
from tests.support.wire.real_cluster import NEEDS_CLUSTER

pytestmark = NEEDS_CLUSTER

SEED = 21
READS = 1500


@pytest.fixture(scope="module")
def oracle() -> Iterator[RealClusterOracle]:
    with start_real_cluster_oracle() as started:
        yield started


def test_no_answer_shows_or_depends_on_others(oracle: RealClusterOracle) -> None:
    verdicts = oracle.read(seeded(SEED), READS)
    assert verdicts.faults == []
    for lane in oracle.lanes:
        assert verdicts.statuses[f"{lane} 200"] > READS / 10, "a fair part of it was admitted"
    assert verdicts.shown_directly > 5, "the same requests would show it"


def test_an_answer_of_another_tenant_is_found(oracle: RealClusterOracle) -> None:
    other = oracle.key.mint({"tenant_id": {"account_id": 15}})
    tokens, oracle.tokens = oracle.tokens, {"tenant": other}
    try:
        faults = oracle.read(seeded(SEED), 200).faults
    finally:
        oracle.tokens = tokens
    for law in ("shows a mark", "depends on"):
        assert any(law in fault for fault in faults), law


def test_no_row_is_written_for_others(oracle: RealClusterOracle) -> None:
    before = oracle.others()
    verdicts = oracle.write(seeded(SEED), 300, "hostile")
    assert verdicts.faults == []
    assert oracle.others() == before
    assert len(oracle.rows("hostile")) > 30, "a fair part of it was admitted"


def test_no_delete_takes_what_is_anothers(oracle: RealClusterOracle) -> None:
    before = oracle.others()
    assert before != []
    verdicts = oracle.delete(seeded(SEED), 200)
    assert verdicts.faults == []
    assert verdicts.statuses["fast 204"] > 5
    assert oracle.others() == before
