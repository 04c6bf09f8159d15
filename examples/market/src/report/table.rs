//! The tables of results.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use super::number::{percent, price, signed_percent};
use crate::{
    analysis::{AssetResults, Severity},
    answer::Results,
    series::Point,
};

/// Columns that a label takes, borders included.
const LABEL: usize = 25;
/// Columns that an asset takes, borders included; a price with its date fits.
const ASSET: usize = 27;
/// How many anomalies are listed.
const LISTED: usize = 20;

/// A row of the table of assets: its label, and its value where there is one.
type Row = (&'static str, fn(&AssetResults) -> Option<String>);

const ROWS: [Row; 13] = [
    ("closes", |asset| Some(asset.statistics.as_ref()?.count.to_string())),
    ("first", |asset| Some(dated(asset.statistics.as_ref()?.first))),
    ("last", |asset| Some(dated(asset.statistics.as_ref()?.last))),
    ("return", |asset| Some(signed_percent(asset.change?))),
    ("mean", |asset| Some(price(asset.statistics.as_ref()?.mean?))),
    ("median", |asset| Some(price(asset.statistics.as_ref()?.median?))),
    ("standard deviation", |asset| Some(price(asset.statistics.as_ref()?.standard_deviation?))),
    ("lowest", |asset| Some(dated(asset.statistics.as_ref()?.lowest))),
    ("highest", |asset| Some(dated(asset.statistics.as_ref()?.highest))),
    ("volatility, daily", |asset| Some(percent(asset.volatility?.daily))),
    ("volatility, annualised", |asset| Some(percent(asset.volatility?.annualised))),
    ("trend, a day", |asset| Some(price(asset.trend?.slope_per_day))),
    ("trend, R²", |asset| Some(format!("{:.3}", asset.trend?.r_squared?))),
];

fn dated(point: Point) -> String {
    format!("{} on {}", price(point.close), point.date)
}

/// Lays the results out in tables, each at most `width` columns wide where that can be.
pub(super) fn tables(results: &Results, width: usize) -> Vec<String> {
    let columns = (width.saturating_sub(LABEL) / ASSET).max(1);
    let mut tables: Vec<_> =
        results.assets.chunks(columns).map(|assets| of_assets(assets, width)).collect();
    tables.extend(of_pairs(results, width));
    tables.extend(of_anomalies(results, width));
    tables
}

fn table(header: Vec<String>, width: usize, labels: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(header);
    for column in table.column_iter_mut().skip(labels) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn of_assets(assets: &[AssetResults], width: usize) -> String {
    let header =
        std::iter::once(String::new()).chain(assets.iter().map(|asset| asset.asset.clone()));
    let mut table = table(header.collect(), width, 1);
    for (label, value) in ROWS {
        let values = assets.iter().map(|asset| value(asset).unwrap_or_else(|| "-".into()));
        table.add_row(std::iter::once(label.to_owned()).chain(values));
    }
    table.to_string()
}

fn of_pairs(results: &Results, width: usize) -> Option<String> {
    let header = ["correlation of daily returns", "Pearson", "p-value", "days"].map(String::from);
    let mut table = table(header.into(), width, 1);
    for pair in &results.pairs {
        let shown =
            |number: Option<f64>| number.map_or("-".into(), |number| format!("{number:.4}"));
        table.add_row([
            format!("{} and {}", pair.first, pair.second),
            shown(pair.correlation.coefficient),
            pair.correlation.p_value.map_or("-".into(), |p| {
                if p > 0.0 && p < 0.0001 { format!("{p:.1e}") } else { format!("{p:.4}") }
            }),
            pair.correlation.count.to_string(),
        ]);
    }
    (!results.pairs.is_empty()).then(|| table.to_string())
}

fn of_anomalies(results: &Results, width: usize) -> Option<String> {
    let header = ["unusual day", "asset", "severity", "return", "z-score"].map(String::from);
    let mut table = table(header.into(), width, 3);
    let found = results.assets.iter().flat_map(|asset| {
        let days = asset.anomalies.iter().flat_map(|found| &found.days);
        days.map(|day| (asset.asset.as_str(), day))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(_, day)| std::cmp::Reverse(day.date));
    for (asset, day) in found.iter().take(LISTED) {
        let severity = match day.severity {
            Severity::Moderate => "moderate",
            Severity::High => "high",
            Severity::Extreme => "extreme",
        };
        table.add_row([
            day.date.to_string(),
            (*asset).to_owned(),
            severity.into(),
            signed_percent(day.fraction),
            format!("{:+.1}", day.z_score),
        ]);
    }
    let more = match found.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("\nand {more} earlier ones"),
    };
    (!found.is_empty()).then(|| format!("{table}{more}"))
}
