"""Made-up card payments with frauds of known patterns, to learn and to test with.

No free set of real frauds is to be had. Here customers have a home country, a usual hour, amount
and kind of shop, and four patterns of fraud break one habit each:

    testing      a stolen card is tried with a burst of tiny online payments at new shops
    takeover     an account is emptied: a large transfer from a new device, after a new password
    abroad       a card is copied: it pays far from home, within minutes of a payment at home
    night        a card is lost: several large payments in the small hours, at shops unlike the
                 customer's

Amounts are log-normal, hours normal around the customer's own, counts Poisson. Real payments are
not as clean; what a method finds here says that it works, and not how well it will.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from suffuse_anomaly.table import TableError

__all__ = ["PATTERNS", "payments"]

PATTERNS = ("testing", "takeover", "abroad", "night")
SHOPS = ("food", "fuel", "clothes", "online", "travel", "transfer")
COUNTRIES = ("DE", "FR", "NL", "PL", "US")


def payments(n: int = 5000, frauds: int = 50, *, seed: int = 0) -> pd.DataFrame:
    """n payments, `frauds` of them fraudulent, in the order of time.

    Args:
        n, frauds: how many; frauds below n.
        seed: of all that is drawn.

    Returns:
        The columns when (date), amount (euros), shop, country, online, new_device, minutes_since
        (the customer's last payment), distance (km from the last payment), in_hour (payments of the
        customer in the last hour), password_days (since the password changed); with fraud (0 or 1)
        and pattern ("" for none).

    >>> table = payments(200, 8)
    >>> table["fraud"].sum().item(), sorted(set(table["pattern"]))
    (8, ['', 'abroad', 'night', 'takeover', 'testing'])
    """
    if not 0 <= frauds < n:
        raise TableError(f"frauds are 0 or more and fewer than payments; given {frauds} of {n}")
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, max(20, n // 50), n)
    habits = np.random.default_rng(seed + 1)
    many = customer.max() + 1
    level, hour = habits.normal(3.2, 0.5, many), habits.normal(14, 2.5, many)
    home = habits.choice(len(COUNTRIES), many, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    taste = habits.dirichlet([2, 1, 1, 2, 0.3, 0.7], many)
    shop = np.array([rng.choice(len(SHOPS), p=taste[c]) for c in customer])
    dear = np.array([0.0, 0.4, 0.8, 0.3, 1.8, 1.5])[shop]
    hours = np.clip(rng.normal(hour[customer], 2.0), 0, 23.99)
    days = rng.integers(0, 90, n)
    abroad = rng.random(n) < 0.03
    table = pd.DataFrame(
        {
            "hours": hours,
            "amount": np.exp(rng.normal(level[customer] + dear, 0.5)),
            "shop": np.array(SHOPS)[shop],
            "country": np.array(COUNTRIES)[
                np.where(abroad, rng.integers(0, len(COUNTRIES), n), home[customer])
            ],
            "online": np.isin(shop, (3, 5)).astype(int),
            "new_device": (rng.random(n) < 0.02).astype(int),
            "minutes_since": rng.exponential(1400, n) + 20,
            "distance": np.where(abroad, rng.exponential(600, n), rng.exponential(8, n)),
            "in_hour": rng.poisson(0.15, n),
            "password_days": rng.exponential(300, n),
            "fraud": 0,
            "pattern": "",
        }
    )
    chosen = rng.permutation(n)[:frauds]
    for i, row in enumerate(chosen):
        pattern = PATTERNS[i % len(PATTERNS)]
        changes = _fraud(pattern, rng, float(table.at[row, "amount"]))
        for name, value in {**changes, "fraud": 1, "pattern": pattern}.items():
            table.at[row, name] = value
    table = table.round(3)
    when = pd.Timestamp("2026-01-01") + pd.to_timedelta(days * 24 + table.pop("hours"), "h")
    table.insert(0, "when", when.dt.round("s"))
    return table.sort_values("when", ignore_index=True)


def _fraud(pattern: str, rng: np.random.Generator, amount: float) -> dict[str, float | str | int]:
    """What a pattern changes in a payment."""
    if pattern == "testing":
        return {
            "amount": rng.uniform(0.5, 2),
            "shop": "online",
            "online": 1,
            "in_hour": int(rng.integers(6, 15)),
            "minutes_since": rng.uniform(0.2, 3),
            "new_device": 1,
        }
    if pattern == "takeover":
        return {
            "amount": rng.uniform(2000, 9000),
            "shop": "transfer",
            "online": 1,
            "new_device": 1,
            "password_days": rng.uniform(0, 0.5),
        }
    if pattern == "abroad":
        return {
            "country": "US",
            "distance": rng.uniform(3000, 9000),
            "minutes_since": rng.uniform(5, 60),
            "online": 0,
            "shop": str(rng.choice(["clothes", "travel", "fuel"])),
        }
    return {
        "hours": rng.uniform(1, 4.5),
        "amount": amount * rng.uniform(5, 12),
        "in_hour": int(rng.integers(2, 5)),
        "minutes_since": rng.uniform(5, 25),
    }
