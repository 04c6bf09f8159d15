//! Splits a question into words.

/// A word of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// As it was typed, without punctuation.
    pub(super) typed: String,
    /// In small letters.
    pub(super) lower: String,
    /// It stood behind a dollar sign: `$zec`.
    pub(super) is_cashtag: bool,
}

impl Word {
    fn new(typed: &str, is_cashtag: bool) -> Self {
        Self { typed: typed.into(), lower: typed.to_lowercase(), is_cashtag }
    }

    /// Tells whether the word is one of `words`, which are in small letters.
    pub(super) fn is(&self, words: &[&str]) -> bool {
        words.contains(&self.lower.as_str())
    }

    /// Tells whether the word has a letter and no small one.
    pub(super) fn is_capitals(&self) -> bool {
        self.typed.chars().any(char::is_alphabetic) && !self.typed.chars().any(char::is_lowercase)
    }
}

/// Splits `text` into words; dates and the tickers in `available` stay whole.
pub(super) fn split(text: &str, available: &[String]) -> Vec<Word> {
    let mut words = Vec::new();
    for chunk in text.split(|c: char| c.is_whitespace() || "–—…,;()[]\"?!".contains(c)) {
        for part in chunk.split("..") {
            let is_cashtag = part.starts_with('$');
            let part = part.trim_matches(|c: char| !c.is_alphanumeric());
            if part.is_empty() {
                continue;
            }
            if let Some(date) = numeric_date(part) {
                words.push(Word::new(date, false));
            } else if available.iter().any(|asset| asset.eq_ignore_ascii_case(part)) {
                words.push(Word::new(part, is_cashtag));
            } else {
                let pieces = part.split(|c: char| !c.is_alphanumeric());
                for piece in pieces.filter(|piece| !piece.is_empty()) {
                    let known = available.iter().any(|asset| asset.eq_ignore_ascii_case(piece));
                    match piece.find(|c: char| !c.is_ascii_digit()) {
                        // `90d`, `3rd`
                        Some(end) if end > 0 && !known => {
                            words.push(Word::new(&piece[..end], false));
                            words.push(Word::new(&piece[end..], false));
                        }
                        _ => words.push(Word::new(piece, is_cashtag)),
                    }
                }
            }
        }
    }
    words
}

/// Returns the date that `part` is or begins with, where it is two or three numbers joined alike.
fn numeric_date(part: &str) -> Option<&str> {
    let date = part.split(['T', 't']).next().unwrap_or(part);
    ['-', '/', '.'].into_iter().find_map(|joint| {
        let lengths: Option<Vec<_>> = date
            .split(joint)
            .map(|number| number.bytes().all(|b| b.is_ascii_digit()).then_some(number.len()))
            .collect();
        matches!(lengths?[..], [4, 1 | 2] | [4, 1 | 2, 1 | 2] | [1 | 2, 1 | 2, 2 | 4] | [1 | 2, 4])
            .then_some(date)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_punctuation_and_dates_stay_whole() {
        let available = ["ZEC".to_owned(), "BRK.B".to_owned(), "1INCH".to_owned()];
        for (text, expected) in [
            ("How did ZEC's price move?", &["How", "did", "ZEC", "s", "price", "move"][..]),
            ("ZEC/BTC, (ETH-USD)", &["ZEC", "BTC", "ETH", "USD"]),
            ("brk.b 1inch 1st 90d 30-day", &["brk.b", "1inch", "1", "st", "90", "d", "30", "day"]),
            ("2024-03-01..2024-03-31", &["2024-03-01", "2024-03-31"]),
            ("2024-03-01–2024-03-31.", &["2024-03-01", "2024-03-31"]),
            (
                "2024-03-01T10:00:00Z 2024/3/1 2024-03 1.3.2024",
                &["2024-03-01", "2024/3/1", "2024-03", "1.3.2024"],
            ),
            ("2023-2024", &["2023", "2024"]),
            (" ?! -- ", &[]),
        ] {
            let words: Vec<_> =
                split(text, &available).into_iter().map(|word| word.typed).collect();
            assert_eq!(words, expected, "{text}");
        }
    }

    #[test]
    fn cashtags_and_capitals_are_told() {
        let words = split("$zec BTC Eth 90", &[]);
        let told: Vec<_> = words.iter().map(|word| (word.is_cashtag, word.is_capitals())).collect();
        assert_eq!(told, [(true, false), (false, true), (false, false), (false, false)]);
    }
}
