"""The numbers of the analysis agent, as examples/market defines them."""

import math
import statistics
from datetime import date, timedelta
from itertools import combinations, pairwise

from market.v1 import market_pb2 as market

STILL = 1e-12  # below this standard deviation returns do not vary: what is left is rounding
SKETCH = 60  # points that fit in a line of a terminal


def analyse(series: list, first: date, last: date, metrics: set, window: int, threshold: float):
    """Analyses series of `(asset, {day: close})` between two days, both included."""
    response = market.AnalysisResponse()
    for asset, closes in series:
        points = {day: close for day, close in closes.items() if first <= day <= last}
        results = response.assets.add(asset=asset)
        if points:
            describe(results, points)
        if market.METRIC_ANOMALIES in metrics:
            results.anomalies.CopyFrom(anomalies(closes, first, last, window, threshold))
    if market.METRIC_CORRELATION in metrics:
        for (one, x), (other, y) in combinations(series, 2):
            within = ({day: close for day, close in it.items() if first <= day <= last} for it in (x, y))
            response.correlations.append(correlation(one, other, *within))
    return response


def point(item) -> market.Point:
    return market.Point(date=item[0].isoformat(), close=item[1])


def daily_returns(points: dict):
    """Log returns of days that follow a day, and how many pairs have days missing between them."""
    returns, gaps = {}, 0
    for (before, close), (day, next_close) in pairwise(points.items()):
        if day - before == timedelta(days=1):
            returns[day] = math.log(next_close) - math.log(close)
        else:
            gaps += 1
    return returns, gaps


def describe(results, points: dict):
    closes, days = list(points.values()), list(points)
    stats = results.statistics
    stats.count = len(closes)
    ends = (("first", 0), ("last", -1))
    items = list(points.items())
    for name, at in ends:
        getattr(stats, name).CopyFrom(point(items[at]))
    stats.lowest.CopyFrom(point(min(items, key=lambda it: it[1])))
    stats.highest.CopyFrom(point(max(items, key=lambda it: it[1])))
    stats.mean, stats.median = statistics.fmean(closes), statistics.median(closes)
    thin = items if len(items) <= SKETCH else [
        items[i * (len(items) - 1) // (SKETCH - 1)] for i in range(SKETCH)]
    results.sketch.extend(map(point, thin))
    if len(closes) < 2:
        return
    stats.standard_deviation = statistics.stdev(closes)
    results.change.fraction = closes[-1] / closes[0] - 1
    returns, gaps = daily_returns(points)
    if len(returns) >= 2:
        daily = statistics.stdev(returns.values())
        results.volatility.CopyFrom(market.Volatility(
            daily=daily, annualised=daily * math.sqrt(365), returns=len(returns), gaps=gaps))
    passed = [(day - days[0]).days for day in days]
    covariance = statistics.covariance(passed, closes)
    varies = any(close != closes[0] for close in closes)
    slope = covariance / statistics.variance(passed) if varies else 0.0
    results.trend.slope_per_day = slope
    if varies:
        results.trend.r_squared = min(max(slope * covariance / statistics.variance(closes), 0.0), 1.0)


def anomalies(closes: dict, first: date, last: date, window: int, threshold: float) -> market.Anomalies:
    """Days whose return is far from the mean of the returns before it, which may precede the range."""
    found = market.Anomalies(window=window, threshold=threshold)
    returns = list(daily_returns(closes)[0].items())
    for i, (day, value) in enumerate(returns):
        before = [value for _, value in returns[i - window:i]] if i >= window >= 2 else []
        if not before or not first <= day <= last or statistics.stdev(before) < STILL:
            continue
        found.judged += 1
        z_score = (value - statistics.fmean(before)) / statistics.stdev(before)
        if abs(z_score) >= threshold:
            severity = (market.SEVERITY_EXTREME if abs(z_score) >= 6 else
                        market.SEVERITY_HIGH if abs(z_score) >= 4 else market.SEVERITY_MODERATE)
            found.days.add(date=day.isoformat(), fraction=math.expm1(value), z_score=z_score, severity=severity)
    return found


def correlation(first: str, second: str, x: dict, y: dict) -> market.Correlation:
    x, y = daily_returns(x)[0], daily_returns(y)[0]
    shared = [day for day in x if day in y]
    x, y = [x[day] for day in shared], [y[day] for day in shared]
    result = market.Correlation(first=first, second=second, count=len(shared))
    if len(shared) < 3 or min(statistics.stdev(x), statistics.stdev(y)) < STILL:
        return result
    r = statistics.covariance(x, y) / (statistics.stdev(x) * statistics.stdev(y))
    r = result.coefficient = min(max(r, -1.0), 1.0)
    freedom = len(shared) - 2
    # Two-sided, by Student's t: of t² = r² · freedom / (1 − r²), only 1 − r² is left.
    result.p_value = incomplete_beta(freedom / 2, 0.5, 1 - r * r)
    return result


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by Lentz's continued fraction."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 500):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            fraction *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return front * fraction / a
