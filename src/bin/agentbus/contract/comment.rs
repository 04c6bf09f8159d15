//! The comments of a `.proto` file.

use prost_reflect::FileDescriptor;

/// Returns what is written above the element at `path`, or else behind it: lines without the
/// slashes and the space after them.
pub(crate) fn of(file: &FileDescriptor, path: &[i32]) -> Option<String> {
    let info = file.file_descriptor_proto().source_code_info.as_ref()?;
    let place = info.location.iter().find(|place| place.path == path)?;
    let text = [place.leading_comments(), place.trailing_comments()]
        .into_iter()
        .find(|text| !text.trim().is_empty())?;
    let lines: Vec<_> = text
        .trim_end()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    Some(lines.join("\n").trim_matches('\n').to_owned())
}

/// Writes a comment as `.proto` text, each line after `indent`.
pub(crate) fn to_proto(text: &str, indent: &str) -> String {
    let line = |line: &str| match line {
        "" => format!("{indent}//\n"),
        line => format!("{indent}// {line}\n"),
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_written_line_by_line() {
        assert_eq!(to_proto("One.\n\n  Two.", "  "), "  // One.\n  //\n  //   Two.\n");
    }
}
