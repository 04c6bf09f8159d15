//! Reserved numbers and names, of messages and of enums.

use prost_reflect::{EnumDescriptor, FileDescriptor, MessageDescriptor};

use super::{Comparison, Rule};

/// Numbers of `reserved_range` and `reserved_name` in `DescriptorProto`.
const OF_MESSAGES: (i32, i32) = (9, 10);
/// Numbers of the same in `EnumDescriptorProto`.
const OF_ENUMS: (i32, i32) = (4, 5);

/// What a message or an enum reserves, and what it uses.
pub(super) struct Reserved {
    full_name: String,
    file: FileDescriptor,
    path: Vec<i32>,
    parts: (i32, i32),
    /// First and last number of each range.
    ranges: Vec<(i64, i64)>,
    names: Vec<String>,
    /// Number, name and place of what is declared.
    used: Vec<(i64, String, Vec<i32>)>,
}

impl Reserved {
    pub(super) fn of_message(message: &MessageDescriptor) -> Self {
        let used = message.fields().map(|field| {
            (i64::from(field.number()), field.name().to_owned(), field.path().to_vec())
        });
        Self {
            full_name: message.full_name().to_owned(),
            file: message.parent_file(),
            path: message.path().to_vec(),
            parts: OF_MESSAGES,
            ranges: message
                .reserved_ranges()
                .map(|range| (i64::from(range.start), i64::from(range.end) - 1))
                .collect(),
            names: message.reserved_names().map(str::to_owned).collect(),
            used: used.collect(),
        }
    }

    pub(super) fn of_enum(enumeration: &EnumDescriptor) -> Self {
        let used = enumeration.values().map(|value| {
            (i64::from(value.number()), value.name().to_owned(), value.path().to_vec())
        });
        Self {
            full_name: enumeration.full_name().to_owned(),
            file: enumeration.parent_file(),
            path: enumeration.path().to_vec(),
            parts: OF_ENUMS,
            ranges: enumeration
                .reserved_ranges()
                .map(|range| (i64::from(*range.start()), i64::from(*range.end())))
                .collect(),
            names: enumeration.reserved_names().map(str::to_owned).collect(),
            used: used.collect(),
        }
    }

    pub(super) fn has_number(&self, number: i64) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|reserved| reserved == name)
    }

    /// Finds what this, the old one, reserves and the new one does not.
    pub(super) fn compare(&self, comparison: &mut Comparison<'_>, new: &Self) {
        let (range_part, name_part) = self.parts;
        for (index, range) in self.ranges.iter().enumerate() {
            for missing in without(*range, &new.ranges) {
                let shown = shown(missing);
                let of = &self.full_name;
                let is_missing = |number: &i64| (missing.0..=missing.1).contains(number);
                let taken = new.used.iter().find(|(number, ..)| is_missing(number));
                let rule = Rule::ReservedNumberRemoved;
                if let Some((number, name, path)) = taken {
                    let message = format!(
                        "`{name}` takes number {number} of `{of}`, which was reserved: old messages \
                         may have something else there"
                    );
                    comparison.found_new(rule, &new.file, path, message);
                } else {
                    let message = format!(
                        "`{of}` does not reserve {shown} any more: add `reserved {shown};`"
                    );
                    let path = self.part(range_part, index);
                    comparison.found_old(rule, &self.file, &path, message);
                }
            }
        }
        for (index, name) in self.names.iter().enumerate() {
            if new.has_name(name) {
                continue;
            }
            let of = &self.full_name;
            if let Some((_, _, path)) = new.used.iter().find(|(_, used, _)| used == name) {
                let message = format!(
                    "`{name}` of `{of}` was reserved: old JSON may have something else under that name"
                );
                comparison.found_new(Rule::ReservedNameRemoved, &new.file, path, message);
            } else {
                let message = format!(
                    "`{of}` does not reserve the name `{name}` any more: add `reserved \"{name}\";`"
                );
                let path = self.part(name_part, index);
                comparison.found_old(Rule::ReservedNameRemoved, &self.file, &path, message);
            }
        }
    }

    fn part(&self, number: i32, index: usize) -> Vec<i32> {
        let index = i32::try_from(index).unwrap_or(i32::MAX);
        [self.path.as_slice(), &[number, index]].concat()
    }
}

/// Returns what is left of a range when others are taken from it.
fn without(range: (i64, i64), others: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut left = vec![range];
    for (first, last) in others {
        left = left
            .into_iter()
            .flat_map(|(a, b)| [(a, b.min(first - 1)), (a.max(last + 1), b)])
            .filter(|(a, b)| a <= b)
            .collect();
    }
    left
}

fn shown((first, last): (i64, i64)) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_taken_from_ranges() {
        assert_eq!(without((5, 10), &[]), [(5, 10)]);
        assert_eq!(without((5, 10), &[(1, 20)]), []);
        assert_eq!(without((5, 10), &[(7, 8)]), [(5, 6), (9, 10)]);
        assert_eq!(without((5, 10), &[(5, 6), (7, 10)]), []);
        assert_eq!(without((5, 10), &[(11, 12)]), [(5, 10)]);
        assert_eq!(without((-3, -1), &[(-2, 7)]), [(-3, -3)]);
    }

    #[test]
    fn a_range_is_written_as_in_a_proto_file() {
        assert_eq!(shown((5, 5)), "5");
        assert_eq!(shown((5, 8)), "5 to 8");
    }
}
