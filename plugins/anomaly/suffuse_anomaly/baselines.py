"""What the benchmark compares with: detectors of scikit-learn, and published ones by their papers.

Each is a function (training rows, rows to score, seed) -> unusualness [N], on rows that are
numbers, standardised where it says so. In the unsupervised setting both are the same array, and
those that look at neighbours leave a row itself out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import OneClassSVM
from torch import nn

__all__ = ["BASELINES", "NETWORKS"]

Floats = npt.NDArray[np.float64]


def _standardised(score: Callable[..., Floats]) -> Callable[..., Floats]:
    def scaled(train: Floats, rows: Floats, seed: int) -> Floats:
        scaler = StandardScaler().fit(train)
        a = scaler.transform(train)
        return score(a, a if rows is train else scaler.transform(rows), seed)

    return scaled


def _neighbours(train: Floats, rows: Floats, k: int) -> Floats:
    near = NearestNeighbors(n_neighbors=k).fit(train)
    return near.kneighbors(None if rows is train else rows)[0]


def knn(train: Floats, rows: Floats, seed: int) -> Floats:
    """The distance to the fifth neighbour."""
    return _neighbours(train, rows, 5)[:, -1]


def knn_mean(train: Floats, rows: Floats, seed: int) -> Floats:
    """The mean distance to five neighbours."""
    return _neighbours(train, rows, 5).mean(1)


def knn_range(train: Floats, rows: Floats, seed: int) -> Floats:
    """The mean distance to five neighbours, each column scaled to its range."""
    scaler = MinMaxScaler().fit(train)
    a = scaler.transform(train)
    return knn_mean(a, a if rows is train else scaler.transform(rows), seed)


def lof(train: Floats, rows: Floats, seed: int) -> Floats:
    k = min(20, len(train) - 1)
    if rows is train:
        return -LocalOutlierFactor(n_neighbors=k).fit(train).negative_outlier_factor_
    return -LocalOutlierFactor(n_neighbors=k, novelty=True).fit(train).score_samples(rows)


def forest(train: Floats, rows: Floats, seed: int) -> Floats:
    return -IsolationForest(random_state=seed).fit(train).score_samples(rows)


def svm(train: Floats, rows: Floats, seed: int) -> Floats:
    return -OneClassSVM().fit(train).score_samples(rows)


def mcd(train: Floats, rows: Floats, seed: int) -> Floats:
    return -EllipticEnvelope(random_state=seed).fit(train).score_samples(rows)


def pca(train: Floats, rows: Floats, seed: int) -> Floats:
    """Squared distances along all principal axes, each over its variance."""
    found = PCA(random_state=seed).fit(train)
    variance = np.maximum(found.explained_variance_, 1e-9)
    return (found.transform(rows) ** 2 / variance).sum(1)


def _tails(train: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """−log of the shares of training values at most, and at least, as large; [N, D] each."""
    low, high = np.empty(rows.shape), np.empty(rows.shape)
    n = len(train) + 1
    for j in range(rows.shape[1]):
        ordered = np.sort(train[:, j])
        low[:, j] = (1 + np.searchsorted(ordered, rows[:, j], "right")) / (n + 1)
        high[:, j] = (1 + n - 1 - np.searchsorted(ordered, rows[:, j], "left")) / (n + 1)
    return -np.log(low), -np.log(high)


def _by_skew(train: Floats, low: Floats, high: Floats) -> Floats:
    """The tail that a column leans to; both, where it leans to none."""
    skew = np.nan_to_num(stats.skew(train))
    return np.where(skew < 0, low, np.where(skew > 0, high, low + high))


def ecod(train: Floats, rows: Floats, seed: int) -> Floats:
    """Li et al., "ECOD" (2022), arXiv 2201.00382, as PyOD has it: the larger tail of each column.

    The paper takes the largest of three sums over columns, which found less.
    """
    low, high = _tails(train, rows)
    return np.maximum(np.maximum(low, high), _by_skew(train, low, high)).sum(1)


def copod(train: Floats, rows: Floats, seed: int) -> Floats:
    """Li et al., "COPOD" (2020), arXiv 2009.09463, as PyOD has it: column by column."""
    low, high = _tails(train, rows)
    return np.maximum((low + high) / 2, _by_skew(train, low, high)).sum(1)


def dte_np(train: Floats, rows: Floats, seed: int) -> Floats:
    """Diffusion time from five neighbours as published: the most likely of 300 bins.

    Livernoche et al. (2023), arXiv 2305.18593, section 4.1; β from 0.0001 to 0.01.
    """
    squares = (_neighbours(train, rows, 5) ** 2).mean(1)[:, None]
    variance = 1 - np.cumprod(1 - np.linspace(1e-4, 0.01, 300))
    half = train.shape[1] / 2
    log_p = -(half + 1) * np.log(variance) - squares / (2 * variance)
    return log_p.argmax(1).astype(np.float64)


def dte_c(train: Floats, rows: Floats, seed: int) -> Floats:
    """Diffusion time by a network as published: the mean of 7 bins of 400 steps.

    Livernoche et al. (2023), section 4.2, with the settings of the authors' code: layers of 256,
    512 and 256, dropout of one half after the second and third, Adam at 1e-4 with weight decay
    5e-4, 400 epochs of batches of 64, variance 1 − Π (1 − β) with β from 0.0001 to 0.01, and its
    cross-entropy, which takes the softmax of a softmax.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Linear(train.shape[1], 256), nn.ReLU()),
            *(nn.Linear(256, 512), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(256, 7), nn.Softmax(1)),
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-4)
        deviation = (1 - torch.cumprod(1 - torch.linspace(1e-4, 0.01, 400), 0)).sqrt()
        x = torch.from_numpy(train).float()
        for _ in range(400):
            for chosen in torch.randperm(len(x)).split(64):
                t = torch.randint(400, (len(chosen),))
                noised = x[chosen] + deviation[t, None] * torch.randn(len(chosen), x.shape[1])
                loss = nn.functional.cross_entropy(network(noised), t * 7 // 400)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            bins = network.eval()(torch.from_numpy(rows).float())
    found: Floats = (bins @ torch.arange(7.0)).double().numpy()
    return found


BASELINES: dict[str, Callable[..., Any]] = {
    "kNN": _standardised(knn),
    "kNN, mean": _standardised(knn_mean),
    "kNN, mean, by range": knn_range,
    "LOF": _standardised(lof),
    "IForest": forest,
    "OCSVM": _standardised(svm),
    "MCD": _standardised(mcd),
    "PCA": _standardised(pca),
    "ECOD": ecod,
    "COPOD": copod,
    "DTE-NP as published": _standardised(dte_np),
    "DTE-C as published": _standardised(dte_c),
}
NETWORKS = ("DTE-C as published",)
"""Those that train a network."""
