"""What a lost object says when the record that could have made it again had to go."""

from pathlib import Path

import aktis
import pytest
from aktis.exceptions import ObjectReconstructionFailedError

from tests.support.thief import LARGE, Thief, maker, thieving

TIMEOUT_S = 60.0


def lose_all_of_eight(thief: Thief) -> None:
    make = maker(thief, "evicted")
    refs = [make.remote(i) for i in range(8)]
    thief.steal(*refs)
    assert aktis.get(refs[-1], timeout=TIMEOUT_S).sum() == 7 * LARGE
    with pytest.raises(ObjectReconstructionFailedError, match=r"evicted.* 2000 bytes.*core\.lineage_bytes"):
        aktis.get(refs[0], timeout=TIMEOUT_S)


def test_beyond_the_limit_the_oldest_lineage_goes(tmp_path: Path) -> None:
    limit = {"core.lineage_bytes": 2000}
    with thieving(tmp_path, num_cpus=1, _system_config=limit) as thief:
        lose_all_of_eight(thief)
