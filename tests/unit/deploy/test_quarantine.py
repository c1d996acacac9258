"""The quarantine on the command line."""

from __future__ import annotations

from deploy.commands.quarantine import bursts


def test_votes_are_shown_as_bursts_with_how_many_people_they_are_of() -> None:
    common = {"alias": "heed", "kind": "rate", "reason": "much"}
    votes = [
        {"burst": "qb-2", "subject": "s3", "verdict": None, **common},
        {"burst": "qb-1", "subject": "s1", "verdict": "released", **common},
        {"burst": "qb-1", "subject": "s1", "verdict": None, **common},
        {"burst": "qb-1", "subject": "s2", "verdict": None, **common},
    ]
    shown = [(row["burst"], row["verdict"], row["votes"], row["subjects"]) for row in bursts(votes)]
    assert shown == [("qb-2", None, 1, 1), ("qb-1", "released", 1, 1), ("qb-1", None, 2, 2)]
