//! What a page is made of.

/// A part of a page.
pub(super) enum Block {
    /// Level from 1, what links lead to it by, and its text.
    Heading {
        level: usize,
        anchor: Option<String>,
        text: String,
    },
    Paragraph(Vec<Inline>),
    Table {
        headings: Vec<&'static str>,
        rows: Vec<Vec<Vec<Inline>>>,
    },
}

/// A part of a line.
pub(super) enum Inline {
    Words(String),
    Code(String),
    /// What is shown, and the anchor of a heading on the page.
    Link {
        text: String,
        anchor: String,
    },
}

impl Block {
    pub(super) fn heading(level: usize, anchor: Option<&str>, text: &str) -> Self {
        Self::Heading { level, anchor: anchor.map(str::to_owned), text: text.to_owned() }
    }

    pub(super) fn table<const N: usize>(
        headings: [&'static str; N],
        rows: Vec<Vec<Vec<Inline>>>,
    ) -> Self {
        Self::Table { headings: headings.to_vec(), rows }
    }

    /// Makes a paragraph of each part of a comment between empty lines.
    pub(super) fn paragraphs(text: &str) -> Vec<Self> {
        text.split("\n\n").map(|part| Self::Paragraph(vec![words(part)])).collect()
    }
}

pub(super) fn words(text: &str) -> Inline {
    Inline::Words(text.to_owned())
}

pub(super) fn code(text: &str) -> Inline {
    Inline::Code(text.to_owned())
}

pub(super) fn link(text: &str, anchor: &str) -> Inline {
    Inline::Link { text: text.to_owned(), anchor: anchor.to_owned() }
}
