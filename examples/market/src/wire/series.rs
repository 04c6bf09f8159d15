//! Series of closes.

use super::{
    all,
    malformed::{Malformed, date},
    try_all,
};
use crate::{
    proto,
    series::{Point, Series},
};

impl From<Point> for proto::Point {
    fn from(point: Point) -> Self {
        Self { date: point.date.to_string(), close: point.close }
    }
}

impl TryFrom<proto::Point> for Point {
    type Error = Malformed;

    fn try_from(point: proto::Point) -> Result<Self, Malformed> {
        let proto::Point { date: day, close } = point;
        if !(close > 0.0 && close.is_finite()) {
            return Err(Malformed::new(
                "close",
                format!("of {day:?} is {close}, not above zero and finite"),
            ));
        }
        Ok(Self { date: date("date", &day)?, close })
    }
}

impl From<Series> for proto::Series {
    fn from(series: Series) -> Self {
        let points = all(series.points().iter().copied());
        Self { asset: series.asset, points }
    }
}

impl TryFrom<proto::Series> for Series {
    type Error = Malformed;

    fn try_from(series: proto::Series) -> Result<Self, Malformed> {
        Ok(Self::new(series.asset, try_all(series.points)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_above_zero_and_finite() {
        for close in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Point::try_from(proto::Point { date: "2024-01-01".into(), close }).is_err());
        }
        let point = proto::Point { date: "2024-01-01".into(), close: 1.5 };
        assert_eq!(Point::try_from(point.clone()).map(proto::Point::from), Ok(point));
    }
}
