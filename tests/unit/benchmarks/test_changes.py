"""When a change counts as done, worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.changes import Asked, figures, settled
from benchmarks.results import Row


def asked(*told: tuple[float, int, str]) -> list[Asked]:
    return [Asked(*one) for one in told]


def test_a_change_is_done_at_the_first_request_after_which_none_was_answered_otherwise() -> None:
    seen = asked((9.0, 200, "new"), (10.1, 200, "old"), (10.2, 200, "new"), (10.3, 200, "old"))
    assert settled(seen, "new", 10.0) is None
    seen += asked((10.4, 200, "new"), (10.5, 200, "new"))
    assert settled(seen, "new", 10.0) == pytest.approx((0.3, 0.4))
    assert settled(seen[::-1], "new", 10.0) == pytest.approx((0.3, 0.4))


def test_a_failed_request_is_no_answer_and_what_came_before_does_not_count() -> None:
    seen = asked((9.0, 200, "new"), (10.1, 200, "new"), (10.2, 503, ""), (10.3, 200, "new"))
    assert settled(seen, "new", 10.0) == pytest.approx((0.2, 0.3))
    assert settled(seen[:2], "new", 10.0) == pytest.approx((0.0, 0.1))
    assert settled(seen[:1], "new", 10.0) is None


def test_figures_tell_medians_the_worst_and_what_failed() -> None:
    rows: list[Row] = [{"what": "publish", "seconds": n / 10} for n in range(1, 5)]
    rows += [{"what": "rollback", "last_other": n / 200, "seconds": n / 100} for n in range(1, 5)]
    rows += [{"what": "requests", "failed": 1, "of": 900}]
    rows += [{"what": "restart", "seconds": 1.5, "by_live": by, "others": 2} for by in (True, False)]
    assert [(figure.heed, figure.beside) for figure in figures(rows)] == [
        ("0.20 (0.40) s", "2 times; 1 of 900 requests failed meanwhile"),
        ("10 (20) ms", "2 times; to the first after which none was: 20 (40) ms"),
        ("1.5 s", "1 of 2 first replies by it, 4 later ones by another"),
    ]
