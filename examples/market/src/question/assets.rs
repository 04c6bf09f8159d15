//! Finds the assets in a question.

use super::{Word, clarification::Clarification, metrics};

/// Names by which assets are known, the ticker first. Names that are everyday words as well
/// ("link", "near") are left out.
const NAMES: [&[&str]; 22] = [
    &["BTC", "bitcoin", "bitcoins", "xbt"],
    &["ETH", "ethereum", "ether"],
    &["ZEC", "zcash"],
    &["LTC", "litecoin", "litecoins"],
    &["BCH", "bitcoin cash"],
    &["BSV", "bitcoin sv"],
    &["ETC", "ethereum classic"],
    &["XMR", "monero"],
    &["DASH", "dash"],
    &["DOGE", "dogecoin"],
    &["ADA", "cardano"],
    &["SOL", "solana"],
    &["XRP", "ripple"],
    &["DOT", "polkadot"],
    &["XLM", "stellar lumens"],
    &["BNB", "binance coin"],
    &["LINK", "chainlink"],
    &["AVAX", "avalanche"],
    &["TRX", "tron"],
    &["XTZ", "tezos"],
    &["UNI", "uniswap"],
    &["USDT", "tether"],
];

/// Words that are no ticker unless they are in capitals or behind a dollar sign.
const EVERYDAY: [&str; 100] = [
    "a", "all", "am", "an", "and", "any", "are", "as", "at", "be", "best", "but", "by", "can",
    "coin", "could", "day", "days", "do", "does", "did", "ever", "far", "fast", "few", "for",
    "from", "fun", "get", "give", "go", "good", "had", "has", "have", "her", "high", "hot", "how",
    "i", "if", "in", "is", "it", "its", "just", "key", "last", "long", "low", "many", "me",
    "month", "more", "most", "much", "my", "near", "new", "next", "no", "not", "now", "of", "on",
    "one", "or", "our", "out", "per", "s", "see", "show", "so", "some", "sun", "tell", "than",
    "that", "the", "then", "this", "time", "to", "today", "top", "two", "up", "us", "was", "way",
    "we", "were", "what", "when", "which", "who", "why", "with", "you",
];

/// Capitals that are no asset: currencies the prices are in, and abbreviations.
const NOT_ASSETS: [&str; 16] = [
    "usd", "us", "utc", "gmt", "ytd", "mtd", "vs", "csv", "ok", "am", "pm", "ath", "atl", "ols",
    "std", "sd",
];

/// Finds the assets that `words` name, in their order; `used` are the words of the range.
pub(super) fn find(
    words: &[Word],
    used: &[bool],
    available: &[String],
) -> Result<Vec<String>, Clarification> {
    let is_shouting =
        words.iter().all(|word| !word.typed.chars().any(char::is_lowercase)) && words.len() > 2;
    let mut found: Vec<String> = Vec::new();
    let mut add = |asset: &str| {
        if !found.iter().any(|known| known == asset) {
            found.push(asset.to_owned());
        }
    };
    let mut i = 0;
    while let Some(word) = words.get(i) {
        if used[i] {
            i += 1;
            continue;
        }
        if word.is(&["all", "every", "each"])
            && words.get(i + 1).is_some_and(|next| {
                next.is(&["asset", "assets", "coin", "coins", "ticker", "tickers"])
            })
        {
            for asset in available {
                add(asset);
            }
            i += 2;
            continue;
        }
        let (length, names) = known(&words[i..]);
        let typed = std::slice::from_ref(&word.typed);
        let stands_out = word.is_cashtag || (word.is_capitals() && !is_shouting);
        let is_everyday = EVERYDAY.contains(&word.lower.as_str()) || metrics::is_word(word);
        if length > 1 || stands_out || !is_everyday {
            let candidates = typed.iter().map(String::as_str).filter(|_| length < 2);
            let ticker = candidates
                .chain(names.iter().copied())
                .find_map(|name| available.iter().find(|asset| asset.eq_ignore_ascii_case(name)));
            if let Some(ticker) = ticker {
                add(ticker);
            } else if let Some(ticker) = names.first() {
                return Err(Clarification::unknown_asset(ticker, available));
            } else if word.is_cashtag || (stands_out && looks_like_a_ticker(word)) {
                return Err(Clarification::unknown_asset(&word.typed.to_uppercase(), available));
            }
        }
        i += length;
    }
    if found.is_empty() { Err(Clarification::no_asset(available)) } else { Ok(found) }
}

/// Returns how many words the longest known name at the beginning of `words` has, and all the
/// names of that asset; one word and no names where there is none.
fn known(words: &[Word]) -> (usize, &'static [&'static str]) {
    for length in [2, 1] {
        let Some(words) = words.get(..length) else { continue };
        let phrase = words.iter().map(|word| word.lower.as_str()).collect::<Vec<_>>().join(" ");
        let names =
            NAMES.iter().find(|names| names.iter().any(|name| name.eq_ignore_ascii_case(&phrase)));
        // The ticker of an asset may be an everyday word in small letters.
        if let Some(names) = names
            && (length > 1
                || words[0].is_capitals()
                || !words[0].is(&["ada", "sol", "dot", "link", "uni", "etc"]))
        {
            return (length, names);
        }
    }
    (1, &[])
}

fn looks_like_a_ticker(word: &Word) -> bool {
    (2..=6).contains(&word.typed.len())
        && word.typed.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !NOT_ASSETS.contains(&word.lower.as_str())
        && !EVERYDAY.contains(&word.lower.as_str())
        && !metrics::is_word(word)
        && !super::time::is_word(word)
}

#[cfg(test)]
mod tests {
    use super::{super::words, *};

    fn found(text: &str, available: &[&str]) -> Result<Vec<String>, String> {
        let available: Vec<_> = available.iter().map(ToString::to_string).collect();
        let words = words::split(text, &available);
        find(&words, &vec![false; words.len()], &available).map_err(|back| back.question)
    }

    #[test]
    fn assets_are_found_by_ticker_and_by_name() {
        let available = ["BCH", "BTC", "ETC", "ETH", "LTC", "ZEC", "FOO"];
        for (text, expected) in [
            ("zec", &["ZEC"][..]),
            ("Bitcoin and Bitcoin Cash", &["BTC", "BCH"]),
            ("ethereum classic, Ether and ETH", &["ETC", "ETH"]),
            ("litecoin vs foo vs Foo", &["LTC", "FOO"]),
            ("BTC, LTC, etc", &["BTC", "LTC", "ETC"]),
            ("how does XBT do in USD", &["BTC"]),
        ] {
            assert_eq!(found(text, &available).expect(text), expected, "{text}");
        }
    }

    #[test]
    fn files_may_name_assets_by_their_long_name() {
        assert_eq!(found("how did BTC do", &["BITCOIN"]).as_deref(), Ok(&["BITCOIN".into()][..]));
        assert_eq!(found("bitcoin", &["XBT"]).as_deref(), Ok(&["XBT".into()][..]));
    }

    #[test]
    fn everyday_words_are_tickers_in_capitals_only() {
        let available = ["BTC", "ONE", "GAIN"];
        assert_eq!(found("the one with the most gain, btc", &available).unwrap(), ["BTC"]);
        assert_eq!(found("the gain of ONE", &available).unwrap(), ["ONE"]);
        assert_eq!(found("$gain", &available).unwrap(), ["GAIN"]);
    }

    #[test]
    fn unknown_tickers_are_told_from_other_capitals() {
        for text in ["How did XYZ do against BTC", "BTC vs EUR", "dogecoin or BTC", "$foo BTC"] {
            assert!(found(text, &["BTC"]).expect_err(text).contains("There are no prices for"));
        }
        for text in ["BTC in USD, YTD", "HOW DID BTC MOVE TODAY", "I think BTC is OK", "BTC Q1"] {
            assert_eq!(found(text, &["BTC"]).expect(text), ["BTC"]);
        }
    }
}
