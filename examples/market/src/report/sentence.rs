//! The answer in a sentence.

use super::number::{p_value, percent, price, signed_percent};
use crate::{
    analysis::{AssetResults, Pair},
    answer::Results,
    question::Metric,
    range::DateRange,
};

/// How many anomalies and pairs the sentence names.
const NAMED: usize = 3;

/// Says the main results in one sentence.
#[must_use]
pub fn sentence(results: &Results) -> String {
    let range = period(results);
    let mut clauses = Vec::new();
    for metric in [
        Metric::Return,
        Metric::Price,
        Metric::Volatility,
        Metric::Correlation,
        Metric::Anomalies,
        Metric::Trend,
    ] {
        if !results.metrics.contains(&metric) {
            continue;
        }
        match metric {
            Metric::Return => clauses.push(changes(&results.assets, range)),
            Metric::Correlation => clauses.push(correlations(results)),
            Metric::Price => clauses.extend(results.assets.iter().map(level)),
            Metric::Volatility => clauses.extend(results.assets.iter().map(volatility)),
            Metric::Anomalies => clauses.extend(results.assets.iter().map(anomalies)),
            Metric::Trend => clauses.extend(results.assets.iter().map(trend)),
        }
    }
    let said = clauses.join("; ");
    if results.metrics.contains(&Metric::Return) {
        format!("{}.", capitalised(&said))
    } else if range.from == range.to {
        format!("On {}, {said}.", range.from)
    } else {
        format!("From {} to {}, {said}.", range.from, range.to)
    }
}

fn capitalised(text: &str) -> String {
    text.chars().take(1).flat_map(char::to_uppercase).chain(text.chars().skip(1)).collect()
}

/// Returns the first and the last date that all the assets have closes on, or the range.
fn period(results: &Results) -> DateRange {
    let periods: Vec<_> = results.assets.iter().map(own_period).collect();
    match periods[..] {
        [Some(first), ref others @ ..] if others.iter().all(|other| *other == Some(first)) => first,
        _ => results.range.days,
    }
}

fn own_period(asset: &AssetResults) -> Option<DateRange> {
    let closes = asset.statistics.as_ref()?;
    Some(DateRange { from: closes.first.date, to: closes.last.date })
}

/// "ZEC fell 12.3 % from … to …, while BTC rose 4.0 %"
fn changes(assets: &[AssetResults], range: DateRange) -> String {
    let clauses: Vec<_> = assets
        .iter()
        .enumerate()
        .map(|(i, asset)| {
            let name = &asset.asset;
            let moved = match asset.change {
                None => format!("{name} has fewer than two closes, so no change can be told"),
                Some(change) => match percent(change.abs()) {
                    still if still == "0.0 %" => format!("{name} did not change"),
                    by if change < 0.0 => format!("{name} fell {by}"),
                    by => format!("{name} rose {by}"),
                },
            };
            let own = own_period(asset).filter(|own| *own != range && asset.change.is_some());
            match own {
                Some(own) => format!("{moved} from {} to {}", own.from, own.to),
                None if i == 0 && range.from == range.to => format!("{moved} on {}", range.from),
                None if i == 0 => format!("{moved} from {} to {}", range.from, range.to),
                None => moved,
            }
        })
        .collect();
    match &clauses[..] {
        [first, second] => format!("{first}, while {second}"),
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => clauses.join(", "),
    }
}

fn correlations(results: &Results) -> String {
    let pairs = &results.pairs;
    let is_clear = pairs.len() == 1 && results.metrics.contains(&Metric::Return);
    let mut clauses: Vec<_> =
        pairs.iter().take(NAMED).map(|pair| correlated(pair, is_clear)).collect();
    if pairs.len() > NAMED {
        clauses.push(format!("and {} more pairs", pairs.len() - NAMED));
    }
    clauses.join("; ")
}

/// "their daily returns correlate at 0.41 (p = 0.002, n = 90)", where it is clear whose.
fn correlated(pair: &Pair, is_clear: bool) -> String {
    let returns = if is_clear {
        "their daily returns".into()
    } else {
        format!("the daily returns of {} and {}", pair.first, pair.second)
    };
    let count = pair.correlation.count;
    match (pair.correlation.coefficient, pair.correlation.p_value) {
        (Some(coefficient), Some(p)) => {
            format!("{returns} correlate at {coefficient:.2} ({}, n = {count})", p_value(p))
        }
        _ => format!("{returns} are too few or too even to correlate (n = {count})"),
    }
}

fn level(asset: &AssetResults) -> String {
    let name = &asset.asset;
    let Some(closes) = &asset.statistics else { return format!("{name} has no close") };
    if closes.count == 1 {
        return format!("{name} closed at {}", price(closes.last.close));
    }
    format!(
        "{name} closed at {} at the end, between {} on {} and {} on {}{}",
        price(closes.last.close),
        price(closes.lowest.close),
        closes.lowest.date,
        price(closes.highest.close),
        closes.highest.date,
        closes.mean.map(|mean| format!(", {} on average", price(mean))).unwrap_or_default(),
    )
}

fn volatility(asset: &AssetResults) -> String {
    match &asset.volatility {
        Some(volatility) => {
            format!(
                "the annualised volatility of {} was {}",
                asset.asset,
                percent(volatility.annualised)
            )
        }
        None => format!("{} has too few daily returns for a volatility", asset.asset),
    }
}

fn anomalies(asset: &AssetResults) -> String {
    let name = &asset.asset;
    match &asset.anomalies {
        Some(found) if found.judged == 0 => {
            format!(
                "no day of {name} could be judged, for {} daily returns must come before it",
                found.window
            )
        }
        Some(found) => {
            let days = match found.judged {
                1 => "day".into(),
                judged => format!("{judged} days"),
            };
            match &found.days[..] {
                [] => format!("none of the {days} judged stood out for {name}"),
                stood_out => {
                    let shown: Vec<_> = stood_out
                        .iter()
                        .rev()
                        .take(NAMED)
                        .map(|day| {
                            let moved = signed_percent(day.fraction);
                            format!("{} ({moved}, z = {:.1})", day.date, day.z_score)
                        })
                        .collect();
                    let more = match stood_out.len() - shown.len() {
                        0 => String::new(),
                        more => format!(" and {more} before"),
                    };
                    let count = stood_out.len();
                    format!("{count} of {days} stood out for {name}: {}{more}", shown.join(", "))
                }
            }
        }
        None => format!("{name} was not looked through for unusual days"),
    }
}

fn trend(asset: &AssetResults) -> String {
    let name = &asset.asset;
    match &asset.trend {
        Some(trend) => {
            let fit =
                trend.r_squared.map(|share| format!(" (R² = {share:.2})")).unwrap_or_default();
            format!("the trend of {name} was {} a day{fit}", price(trend.slope_per_day))
        }
        None => format!("{name} has too few closes for a trend"),
    }
}
