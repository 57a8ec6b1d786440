"""Every rule that is taken out is missed."""

import pytest

from tests.model import mutants


def test_there_are_enough_mutants_and_no_two_alike() -> None:
    assert len(mutants.MUTANTS) >= 30
    assert len({(m.file, m.old, m.new) for m in mutants.MUTANTS}) == len(mutants.MUTANTS)
    assert len({m.rule for m in mutants.MUTANTS}) == len(mutants.MUTANTS)


@pytest.mark.timeout(900)
def test_no_mutant_survives() -> None:
    survivors = [v.mutant.rule for v in mutants.run_all(mutants.MUTANTS) if v.killed_by is None]
    assert survivors == []
