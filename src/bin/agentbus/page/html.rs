//! A page as HTML that needs nothing else.

use std::fmt::Write as _;

use super::{
    Page,
    block::{Block, Inline},
};

const STYLE: &str = "\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
h2 { margin-top: 3rem; }
:root { color-scheme: light dark; }";

/// Writes a page as one HTML file, without scripts and without anything from elsewhere.
pub(crate) fn to_html(page: &Page) -> String {
    let title = escaped(&page.title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}\n</style>\n</head>\n<body>\n"
    );
    for block in &page.blocks {
        let part = match block {
            Block::Heading { level, anchor, text } => {
                let anchor = anchor.as_ref();
                let id = anchor.map_or_else(String::new, |id| format!(" id=\"{}\"", escaped(id)));
                format!("<h{level}{id}>{}</h{level}>\n", escaped(text))
            }
            Block::Paragraph(inlines) => format!("<p>{}</p>\n", line(inlines)),
            Block::Table { headings, rows } => table(headings, rows),
        };
        text += &part;
    }
    text + "</body>\n</html>\n"
}

fn table(headings: &[&str], rows: &[Vec<Vec<Inline>>]) -> String {
    let headings = cells("th", headings.iter().map(|text| escaped(text)));
    let mut text = format!("<table>\n<tr>{headings}</tr>\n");
    for row in rows {
        let cells = cells("td", row.iter().map(|cell| line(cell)));
        _ = writeln!(text, "<tr>{cells}</tr>");
    }
    text + "</table>\n"
}

fn cells(tag: &str, texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |cells, text| cells + "<" + tag + ">" + &text + "</" + tag + ">")
}

fn line(inlines: &[Inline]) -> String {
    inlines
        .iter()
        .map(|inline| match inline {
            Inline::Words(words) => escaped(words),
            Inline::Code(code) => format!("<code>{}</code>", escaped(code)),
            Inline::Link { text, anchor } => {
                format!("<a href=\"#{}\"><code>{}</code></a>", escaped(anchor), escaped(text))
            }
        })
        .collect()
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::block::{link, words};
    use super::*;

    #[test]
    fn what_a_comment_says_is_text() {
        let blocks = vec![
            Block::heading(2, Some("x.v1.A"), "A"),
            Block::Paragraph(vec![words("<script>\"&\""), link("A", "x.v1.A")]),
        ];
        let html = to_html(&Page { title: "a < b".to_owned(), blocks });
        assert!(html.contains("<title>a &lt; b</title>"), "{html}");
        assert!(html.contains("<h2 id=\"x.v1.A\">A</h2>"), "{html}");
        assert!(html.contains("<p>&lt;script&gt;&quot;&amp;&quot;<a href=\"#x.v1.A\">"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }
}
