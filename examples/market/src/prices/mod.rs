//! Reads daily closes from CSV files, of any size, row by row.
//!
//! A file has a header with `date`, `time` or `timestamp`, and `close`, `price`, `PriceUSD` or
//! `price(USD)`, in any case and order; `asset` or `symbol` where it holds several assets. Other
//! columns are ignored. Several rows a day come down to the last of the day while they are read, so
//! that ten years of minutes need no more memory than ten years of days.

mod file;
mod header;
mod instant;
mod line;
mod reading;
mod rejected;
mod row;
mod selection;
mod source;
mod ticker;

pub use reading::{Prices, Provenance, ReadError, Reading};
pub use rejected::{BadRow, KEPT};
pub use selection::{RangeUsed, SelectError, Selection};
pub use source::{Source, SourceError};
pub use ticker::Ticker;
