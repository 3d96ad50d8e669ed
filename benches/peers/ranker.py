"""LightGBM on the features that the online ranker learnt from, in the same run.

    driftline evaluate kuairand KuaiRand-Pure --impressions --ranker online \
        --test-from 2022-05-03T00:00:00+08:00 --features-out features.parquet
    python benches/peers/ranker.py features.parquet [click] [long_view]

Needs lightgbm, numpy and pyarrow. The number of trees is chosen on the last 30 % of what is learnt
from; then all of it is learnt. Trees stay as they are over the judged exposures, whose features move.
Prints AUC, order within requests, Σp/Σy, and differences to the ranker with paired 95 % intervals (users
resampled); also of the mean of both log-odds.
"""

import sys

import lightgbm as lgb
import numpy as np
import pyarrow.parquet as pq

PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 200,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 127,
    # Where cores are shared, threads wait for each other.
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "verbosity": -1,
}
RANKERS = {0: "FTRL", 1: "Kalman, FTRL"}
RESAMPLES = 500
TRAIN, TEST, REQUEST = range(3)


class Ranked:
    """Scores and outcomes, sorted once."""

    def __init__(self, scores, outcomes):
        self.order = np.argsort(scores, kind="stable")
        sorted_scores = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
        self.outcomes = outcomes[self.order]

    def auc(self, weights=None):
        """The share of pairs in order, ties counting half; weights are how often a row was drawn."""
        w = np.ones(len(self.order)) if weights is None else weights[self.order]
        yes = np.add.reduceat(w * self.outcomes, self.starts)
        no = np.add.reduceat(w * (1 - self.outcomes), self.starts)
        below = np.cumsum(no) - no
        return (yes * (below + no / 2)).sum() / (yes.sum() * no.sum())


def auc(scores, outcomes):
    return Ranked(scores, outcomes).auc()


def within(groups, scores, outcomes):
    """The mean of the groups' AUCs, weighed by their rows, of those that have both outcomes."""
    order = np.argsort(groups, kind="stable")
    g, s, y = groups[order], scores[order], outcomes[order]
    total = rows = 0.0
    for part in np.split(np.arange(len(g)), np.flatnonzero(g[1:] != g[:-1]) + 1):
        if 0 < y[part].sum() < len(part):
            total += len(part) * auc(s[part], y[part])
            rows += len(part)
    return total / rows


def gain(ours, theirs, outcomes, users, seed=1):
    """AUC(ours) − AUC(theirs) with its interval, in 1e-4."""
    random = np.random.default_rng(seed)
    _, user = np.unique(users, return_inverse=True)
    ours, theirs = Ranked(ours, outcomes), Ranked(theirs, outcomes)
    count, found = user.max() + 1, []
    for _ in range(RESAMPLES):
        drawn = np.bincount(random.integers(0, count, count), minlength=count)
        weights = drawn[user].astype(float)
        found.append(ours.auc(weights) - theirs.auc(weights))
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{1e4 * (ours.auc() - theirs.auc()):+.0f} [{1e4 * low:+.0f}, {1e4 * high:+.0f}]"


def train(x, y):
    cut = int(0.7 * len(y))
    sets = lgb.Dataset(x[:cut], y[:cut]), lgb.Dataset(x[cut:], y[cut:])
    stop = lgb.early_stopping(60, verbose=False)
    tried = lgb.train(PARAMETERS, sets[0], 1500, valid_sets=[sets[1]], callbacks=[stop])
    trees = tried.best_iteration
    return lgb.train(PARAMETERS, lgb.Dataset(x, y), trees), trees


def main(file, *targets):
    table = pq.read_table(file)
    column = {name: table[name].to_numpy() for name in table.column_names}
    features = [name for name in table.column_names if name.startswith("f_")]
    x = np.column_stack([column[name] for name in features])
    part = column["part"]
    test, request = part == TEST, part == REQUEST
    print(f"{(part == TRAIN).sum()} exposures learnt from, {test.sum()} judged, {len(features)} features\n")
    print("| target | model | AUC | in requests | Σp/Σy | AUC − LightGBM, 1e-4 |")
    print("|---|---|---|---|---|---|")
    for target in targets or ("click", "long_view"):
        y = column[target]
        model, trees = train(x[part == TRAIN], y[part == TRAIN])
        logits = {f"LightGBM, {trees} trees": model.predict(x, raw_score=True)}
        first = next(iter(logits.values()))
        for number, name in RANKERS.items():
            logits[name] = column[f"model_{number}_{target}"].astype(float)
        logits["mean of LightGBM and the last"] = (first + logits[RANKERS[1]]) / 2
        for name, logit in logits.items():
            calibration = (1 / (1 + np.exp(-logit[test]))).sum() / y[test].sum()
            order = within(column["session"][request], logit[request], y[request])
            value = auc(logit[test], y[test])
            over = "" if logit is first else gain(logit[test], first[test], y[test], column["user"][test])
            print(f"| {target} | {name} | {value:.4f} | {order:.4f} | {calibration:.3f} | {over} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
