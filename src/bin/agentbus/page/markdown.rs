//! A page as Markdown.

use std::fmt::Write as _;

use super::{
    Page,
    block::{Block, Inline},
};

/// Writes a page as Markdown of GitHub's kind. Links lead to anchors of its own, since every viewer
/// names headings in another way.
pub(crate) fn to_markdown(page: &Page) -> String {
    let mut text = String::new();
    for block in &page.blocks {
        let part = match block {
            Block::Heading { level, anchor, text } => {
                let marks = "#".repeat(*level);
                let anchor = anchor.as_ref().map_or_else(String::new, |anchor| {
                    format!("<a id=\"{}\"></a>", escaped(anchor).replace('\\', ""))
                });
                format!("{marks} {anchor}{}\n\n", escaped(text))
            }
            Block::Paragraph(inlines) => format!("{}\n\n", line(inlines)),
            Block::Table { headings, rows } => {
                let mut table = format!("| {} |\n", headings.join(" | "));
                _ = writeln!(table, "|{}", "---|".repeat(headings.len()));
                for row in rows {
                    let cells: Vec<_> = row
                        .iter()
                        .map(|cell| line(cell).replace('\n', " ").replace('|', "\\|"))
                        .collect();
                    _ = writeln!(table, "| {} |", cells.join(" | "));
                }
                table + "\n"
            }
        };
        text += &part;
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn line(inlines: &[Inline]) -> String {
    inlines
        .iter()
        .map(|inline| match inline {
            // Comments are often Markdown already; what would be HTML is not let through.
            Inline::Words(words) => words.replace('&', "&amp;").replace('<', "&lt;"),
            Inline::Code(code) => format!("`{code}`"),
            Inline::Link { text, anchor } => format!("[`{text}`](#{anchor})"),
        })
        .collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' => escaped.extend(['\\', c]),
            '<' => escaped += "&lt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::block::{code, link, words};
    use super::*;

    #[test]
    fn a_page_is_written_block_by_block() {
        let rows = vec![vec![vec![code("a")], vec![words("one|\ntwo <b>")]]];
        let blocks = vec![
            Block::heading(2, Some("x.v1.some_Thing"), "some_Thing"),
            Block::Paragraph(vec![words("See "), link("A", "x.v1.A"), words(".")]),
            Block::table(["Field", ""], rows),
        ];
        let expected = "## <a id=\"x.v1.some_Thing\"></a>some\\_Thing\n\nSee [`A`](#x.v1.A).\n\n\
            | Field |  |\n|---|---|\n| `a` | one\\| two &lt;b> |\n";
        assert_eq!(to_markdown(&Page { title: String::new(), blocks }), expected);
    }
}
