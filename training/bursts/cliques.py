"""``clique``, ``trio``, ``ring``, ``slow``: few subjects judge the same replies, and alike, beyond chance.

First who goes together, blind to what they say: two subjects with n and m judged replies share about λ = n·m·q of
them, q = Σ d(d − 1) / (Σ d)² over replies judged by d subjects; a pair is an edge when P(X ≥ shared),
X ~ Poisson(λ), is small. A class that works on one sheet goes together as well. So, second, of each group
that edges make, the replies judged by m ≥ 2 of it and by few others are looked at. For people who see quality with
noise the ups are beta-binomial, with the group's own up-rate μ and the correlation ρ that others have on one reply
(from their pairs' agreement A = 1 − 2μ(1 − μ)(1 − ρ)); for a group that follows one line, which is up for a share μ
of replies, each says so but for a small share of its votes, over two values of which the likelihood is averaged. Its
members have lives besides, so a share of what they have in common is judged as others do. The product of the likelihood
ratios is an e-value: where all judge alone it exceeds 1/α with a chance of at most α, by Markov's inequality (V. Vovk,
R. Wang, Ann. Statist. 49, 2021).
Since groups are made without a look at the ratings, only the number of those with enough in common is corrected for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse, special, stats

from training.bursts.sayings import Burst, Ints, Sayings, hours

CROWD = 25  # subjects that judge a reply, beyond which it joins nobody
EDGE = 1e-3
SHARED = 3  # replies, at least
BOUND = 0.4  # share of its group that a member has edges to
DISSENT = (
    0.02,
    0.1,
)  # share of the votes on a reply in which a group that follows one line does not, one as likely
PLANNED = 0.8  # share of what such a group has in common that it votes on by its line
ALIKE = 0.8  # share of one thumb on a reply that is told as alike
OWN = 1 / 3  # share of the votes on a reply with which it counts as the group's
LEVEL = 5e-3
SLOW = 4 * 86400.0  # seconds


def cliques(sayings: Sayings) -> Iterator[Burst]:
    """One burst a group."""
    spoke = np.flatnonzero(sayings.side != 0)
    if not len(spoke):
        return
    found = [(group, *_agreement(sayings, spoke, group)) for group in _groups(_together(sayings, spoke))]
    telling = [one for one in found if one[-1] >= SHARED]
    for group, rows, chance, alike, judged in telling:
        if chance * len(telling) < LEVEL:
            kind = _kind(sayings, rows, group)
            span = hours(float(np.ptp(sayings.time[rows])))
            why = f"{len(group)} subjects judged {judged} replies in common, {alike} of them alike, within {span}"
            yield Burst(kind, rows, why)


def _together(sayings: Sayings, spoke: Ints) -> sparse.csr_matrix:
    """Edges between subjects that share more replies than chance gives."""
    people, things = int(sayings.subject.max()) + 1, int(sayings.item.max()) + 1
    both = np.unique(np.stack([sayings.subject[spoke], sayings.item[spoke]]), axis=1)
    judged = np.bincount(both[1], minlength=things)
    kept = (judged[both[1]] >= 2) & (judged[both[1]] <= CROWD)
    who, what = both[0][kept], both[1][kept]
    made = sparse.csr_matrix((np.ones(len(who)), (who, what)), shape=(people, things))
    shared = sparse.triu(made @ made.T, k=1).tocoo()
    counts = np.bincount(both[0], minlength=people).astype(float)
    d = judged[(judged >= 2) & (judged <= CROWD)].astype(float)
    q = float((d * (d - 1)).sum()) / max(1.0, counts.sum()) ** 2
    usual = np.maximum(counts[shared.row] * counts[shared.col] * q, 0.02)
    edge = (shared.data >= SHARED) & (stats.poisson.sf(shared.data - 1, usual) < EDGE)
    edges = sparse.csr_matrix(
        (np.ones(edge.sum()), (shared.row[edge], shared.col[edge])), shape=(people, people)
    )
    return edges + edges.T


def _groups(edges: sparse.csr_matrix) -> Iterator[Ints]:
    """Connected parts, as they are, since of a ring no two members share much, and without members that hang on by
    little.
    """
    _, part = sparse.csgraph.connected_components(edges, directed=False)
    for name in np.flatnonzero(np.bincount(part) >= 3):
        group = whole = np.flatnonzero(part == name)
        yield whole
        while len(group) >= 3:
            bound = np.asarray(edges[group][:, group].sum(axis=1)).reshape(-1)
            weakest = int(bound.argmin())
            if bound[weakest] >= BOUND * (len(group) - 1):
                break
            group = np.delete(group, weakest)
        if 3 <= len(group) < len(whole):
            yield group


def _agreement(sayings: Sayings, spoke: Ints, group: Ints) -> tuple[Ints, float, int, int]:
    """The group's votes on what it has in common, the chance of such unison, and the counts behind it."""
    inside = np.isin(sayings.subject[spoke], group)
    mine = spoke[inside]
    things = int(sayings.item.max()) + 1
    ups = np.bincount(sayings.item[mine[sayings.side[mine] > 0]], minlength=things)
    judged = np.bincount(sayings.item[mine], minlength=things)
    every = np.bincount(sayings.item[spoke], minlength=things)
    common = (judged >= 2) & (every <= CROWD) & (judged >= OWN * every)
    rows = mine[common[sayings.item[mine]]]
    if not len(rows):
        return rows, 1.0, 0, 0
    mean, correlation = _habit(sayings, spoke[~inside])
    mean = (ups[common].sum() + 10 * mean) / (judged[common].sum() + 10)
    m = judged[common]
    share = ups[common] / m
    alike = int(((share <= 1 - ALIKE) | (share >= ALIKE)).sum())
    return rows, float(np.exp(-_evidence(ups[common], m, float(mean), correlation))), alike, len(m)


def _evidence(ups: Ints, m: Ints, mean: float, correlation: float) -> float:
    """Logarithm of how many times likelier it is that the group follows one line than that each judges alone."""
    scale = (1 - correlation) / correlation
    alone = stats.betabinom.logpmf(ups, m, mean * scale, (1 - mean) * scale)
    dissent = np.array(DISSENT)[:, None]
    for_it = np.log(mean) + stats.binom.logpmf(ups, m, 1 - dissent)
    against = np.log(1 - mean) + stats.binom.logpmf(ups, m, dissent)
    line = special.logsumexp(np.logaddexp(for_it, against), axis=0) - np.log(len(DISSENT))
    return float(np.logaddexp(np.log(PLANNED) + line - alone, np.log(1 - PLANNED)).sum())


def _habit(sayings: Sayings, rows: Ints) -> tuple[float, float]:
    """Up-rate of the others, and the correlation of their votes on one reply."""
    thumbs = rows[sayings.sign[rows] != 0]
    things = int(sayings.item.max()) + 1
    ups = np.bincount(sayings.item[thumbs[sayings.sign[thumbs] > 0]], minlength=things).astype(float)
    n = np.bincount(sayings.item[thumbs], minlength=things).astype(float)
    mean = (ups.sum() + 5) / (n.sum() + 10)
    several = n >= 2
    weight = (n[several] - 1).sum() + 20
    pairs = (ups * (ups - 1) + (n - ups) * (n - ups - 1))[several] / (
        n[several] * np.maximum(n[several] - 1, 1)
    )
    prior = 1 - 2 * mean * (1 - mean) * 0.75  # a correlation of 0.25
    agreement = ((pairs * (n[several] - 1)).sum() + 20 * prior) / weight
    correlation = 1 - (1 - agreement) / (2 * mean * (1 - mean))
    return float(mean), float(np.clip(correlation, 0.1, 0.6))


def _kind(sayings: Sayings, rows: Ints, group: Ints) -> str:
    voters = len(rows) / len(np.unique(sayings.item[rows]))
    if len(group) == 3:
        return "trio"
    if voters < 0.6 * len(group):
        return "ring"
    return "slow" if np.ptp(sayings.time[rows]) > SLOW else "clique"
