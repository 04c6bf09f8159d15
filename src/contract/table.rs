//! The table that finds every pattern a topic matches.
//!
//! Patterns are those of AMQP's topic exchange: words between dots, where `*` stands for exactly
//! one word and `#` for zero or more. Like `RabbitMQ`, the table takes the empty string for zero
//! words, and takes `a..b` and `a.` to have an empty word, which `*` and `#` match too.
//!
//! # Why a trie
//!
//! Trying every pattern in turn costs as much as there are patterns. Here the words of all patterns
//! share a trie, and a topic walks it as an automaton that is in several places at once. Patterns
//! that have no leading words in common with the topic are never looked at, and as no place is
//! taken twice by a word, `#.#.#.a` costs no more than it has words.

#[cfg(test)]
mod model;
mod node;

use smallvec::SmallVec;

use self::node::{Node, NodeId};

/// The place where every lookup begins: zero words have been read.
const ROOT: NodeId = 0;

/// Places held without allocating; lookups that need more still work.
const INLINE: usize = 16;

type Places = SmallVec<[NodeId; INLINE]>;

/// Values filed under patterns, found by the topics that the patterns match.
///
/// The cost of a lookup depends on the words of the topic and on the patterns that share words with
/// it, not on how many others there are. The table is a multiset: what is inserted twice is found
/// twice, and has to be removed twice.
///
/// ```
/// use agentbus::contract::PatternTable;
///
/// let mut table = PatternTable::new();
/// table.insert("audit.#", "auditor");
/// table.insert("*.request", "gateway");
///
/// assert_eq!(table.matches("data.request"), [&"gateway"]);
/// assert_eq!(table.matches("audit.request").len(), 2);
/// assert!(!table.is_match("data.reply"));
/// ```
#[derive(Clone, Debug)]
pub struct PatternTable<T> {
    nodes: Vec<Node<T>>,
    /// Nodes that were pruned, to be used again.
    free: Vec<NodeId>,
    len: usize,
}

impl<T> Default for PatternTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PatternTable<T> {
    /// Returns an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Node::new(false)], free: Vec::new(), len: 0 }
    }

    /// Files `value` under `pattern`.
    ///
    /// Any text is taken: a `*` or `#` inside of a word stands for itself. The same value under the
    /// same pattern is filed again.
    pub fn insert(&mut self, pattern: &str, value: T) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.node(at).child(word) {
                Some(child) => child,
                None => self.grow(at, word),
            };
        }
        self.node_mut(at).values.push(value);
        self.len += 1;
    }

    /// Takes one `value` that was filed under exactly this `pattern` out again.
    ///
    /// Returns whether there was one. The search goes through all the values of this pattern, and
    /// of no other.
    pub fn remove(&mut self, pattern: &str, value: &T) -> bool
    where
        T: PartialEq,
    {
        let mut at = ROOT;
        let mut path = Vec::new();
        for word in words(pattern) {
            let Some(child) = self.node(at).child(word) else { return false };
            path.push((at, word));
            at = child;
        }
        let values = &mut self.node_mut(at).values;
        let Some(position) = values.iter().position(|filed| filed == value) else { return false };
        values.remove(position);
        self.len -= 1;
        self.prune(at, path);
        true
    }

    /// Calls `f` with every value whose pattern matches `topic`, once for each insertion, even
    /// where the pattern matches in several ways.
    ///
    /// Values of one pattern come in the order of their insertion; the order of patterns is not
    /// defined. Does not allocate, unless more than 16 partly matching patterns diverge.
    pub fn for_each_match(&self, topic: &str, mut f: impl FnMut(&T)) {
        self.walk(topic, |values| values.iter().for_each(&mut f));
    }

    /// Returns every value whose pattern matches `topic`, as [`for_each_match`] does.
    ///
    /// [`for_each_match`]: Self::for_each_match
    #[must_use]
    pub fn matches(&self, topic: &str) -> Vec<&T> {
        let mut found = Vec::new();
        self.walk(topic, |values| found.extend(values));
        found
    }

    /// Whether any pattern matches `topic`.
    #[must_use]
    pub fn is_match(&self, topic: &str) -> bool {
        let mut found = false;
        self.walk(topic, |values| found |= !values.is_empty());
        found
    }

    /// The number of values filed, over all patterns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is filed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    fn node(&self, id: NodeId) -> &Node<T> {
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<T> {
        &mut self.nodes[id as usize]
    }

    fn grow(&mut self, parent: NodeId, word: &str) -> NodeId {
        let node = Node::new(word == "#");
        let child = if let Some(free) = self.free.pop() {
            *self.node_mut(free) = node;
            free
        } else {
            let id =
                NodeId::try_from(self.nodes.len()).expect("nodes of this many fill the memory");
            self.nodes.push(node);
            id
        };
        self.node_mut(parent).link(word, child);
        child
    }

    /// Unlinks the nodes that lead nowhere any more, from the last back to the root.
    fn prune(&mut self, mut at: NodeId, mut path: Vec<(NodeId, &str)>) {
        while self.node(at).is_bare() {
            let Some((parent, word)) = path.pop() else { return };
            *self.node_mut(at) = Node::new(false);
            self.free.push(at);
            self.node_mut(parent).unlink(word);
            at = parent;
        }
    }

    /// Calls `found` with the values of every node at which `topic` ends, once a node, and returns
    /// the number of steps it took.
    fn walk<'a>(&'a self, topic: &str, mut found: impl FnMut(&'a [T])) -> usize {
        let mut here = Places::new();
        let mut next = Places::new();
        self.enter(ROOT, &mut here);
        let mut steps = here.len();
        for word in words(topic) {
            let mut entered_hash = false;
            for &at in &here {
                let node = self.node(at);
                // What lies behind by `#` without a word is in `here` itself: it was entered
                // together with this node, and stays as this one does.
                if node.stays {
                    next.push(at);
                }
                if let Some(child) = node.star {
                    entered_hash |= self.enter(child, &mut next);
                }
                if let Some(child) = node.literal(word) {
                    entered_hash |= self.enter(child, &mut next);
                }
            }
            steps += next.len();
            // A node has one parent, so only one that both stayed and was entered can be there
            // twice.
            if entered_hash {
                next.sort_unstable();
                next.dedup();
            }
            std::mem::swap(&mut here, &mut next);
            next.clear();
            if here.is_empty() {
                break;
            }
        }
        for &at in &here {
            found(&self.node(at).values);
        }
        steps
    }

    /// Takes the place `at` and those that a `#` for zero words leads to from there. Returns
    /// whether there are any of the latter.
    fn enter(&self, at: NodeId, places: &mut Places) -> bool {
        places.push(at);
        let mut node = self.node(at);
        let behind = node.hash.is_some();
        while let Some(child) = node.hash {
            places.push(child);
            node = self.node(child);
        }
        behind
    }
}

/// The words of a topic or pattern. The empty one has none.
fn words(text: &str) -> impl Iterator<Item = &str> {
    (!text.is_empty()).then(|| text.split('.')).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of<'a>(patterns: impl IntoIterator<Item = &'a str>) -> PatternTable<&'a str> {
        let mut table = PatternTable::new();
        for pattern in patterns {
            table.insert(pattern, pattern);
        }
        table
    }

    #[test]
    fn wildcards_stand_for_words_as_in_amqp() {
        let cases = [
            ("query.request", "query.request", true),
            ("query.request", "query.requests", false),
            ("query.*", "query.request", true),
            ("query.*", "query", false),
            ("query.*", "query.request.retry", false),
            ("query.#", "query", true),
            ("query.#", "query.request.retry", true),
            ("query.#", "queries", false),
            ("*.request", "data.request", true),
            ("#.request", "request", true),
            ("#.request", "a.b.request", true),
            ("#.request", "a.b.request.c", false),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.z.c.z", true),
            ("#.*", "", false),
            ("#.*", "a", true),
            ("*.#", "a.b.c", true),
            ("#.a.#", "b.c", false),
            ("#.#", "", true),
            ("re*", "request", false),
            ("re*", "re*", true),
            ("Query", "query", false),
        ];
        for (pattern, topic, expected) in cases {
            assert_eq!(table_of([pattern]).is_match(topic), expected, "{pattern} for {topic}");
        }
    }

    #[test]
    fn the_empty_topic_has_no_words_and_a_dot_makes_empty_ones() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("#", "", true),
            ("*", "", false),
            ("a..b", "a..b", true),
            ("a.*.b", "a..b", true),
            ("a.b", "a..b", false),
            ("a.#.b", "a..b", true),
            ("a.", "a.", true),
            ("a.*", "a.", true),
            ("a", "a.", false),
            ("*.*", ".", true),
            ("*", ".", false),
        ];
        for (pattern, topic, expected) in cases {
            assert_eq!(table_of([pattern]).is_match(topic), expected, "{pattern:?} for {topic:?}");
        }
    }

    #[test]
    fn an_entry_is_visited_once_though_matched_in_several_ways() {
        let table = table_of(["#.a.#", "#.#", "#.*.#", "*.#.*"]);
        let mut seen = Vec::new();
        table.for_each_match("a.a.a", |pattern| seen.push(*pattern));
        seen.sort_unstable();
        assert_eq!(seen, ["#.#", "#.*.#", "#.a.#", "*.#.*"]);
    }

    #[test]
    fn what_is_inserted_twice_is_found_and_removed_twice() {
        let mut table = table_of(["a.*", "a.*"]);
        assert_eq!(table.matches("a.b").len(), 2);
        assert!(table.remove("a.*", &"a.*"));
        assert_eq!(table.matches("a.b").len(), 1);
        assert!(table.remove("a.*", &"a.*"));
        assert!(!table.remove("a.*", &"a.*"));
        assert!(table.is_empty());
    }

    #[test]
    fn removing_asks_for_the_pattern_itself_not_for_one_that_matches_alike() {
        let mut table = PatternTable::new();
        table.insert("a.#", 1);
        for (pattern, value) in [("a.*", 1), ("a", 1), ("a.b", 1), ("a.#.#", 1), ("a.#", 2)] {
            assert!(!table.remove(pattern, &value), "{pattern} {value}");
        }
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn removed_patterns_leave_no_nodes_behind() {
        let mut table = table_of(["a.b"]);
        for round in 0..100 {
            let pattern = format!("a.b.*.#.{round}");
            table.insert(&pattern, "short-lived");
            assert!(table.remove(&pattern, &"short-lived"));
        }
        assert_eq!(table.nodes.len() - table.free.len(), 3, "the root, `a` and `b`");
        assert!(table.nodes.len() <= 6, "pruned nodes are used again");
        assert_eq!(table.matches("a.b"), [&"a.b"]);
        table.clear();
        assert!(table.is_empty() && !table.is_match("a.b"));
    }

    #[test]
    fn unrelated_patterns_cost_no_steps() {
        let table_with = |unrelated: usize| {
            let mut table = PatternTable::new();
            for related in ["data.request.btc", "data.*.btc", "data.#", "#.btc", "*.*.*"] {
                table.insert(related, 0);
            }
            for i in 0..unrelated {
                table.insert(&format!("agent-{i}.reply.#"), i);
                table.insert(&format!("data.request.asset-{i}.*"), i);
            }
            table
        };
        let few = table_with(5);
        let many = table_with(50_000);
        for topic in ["data.request.btc", "data.reply.eth", "nobody.listens", ""] {
            assert_eq!(few.walk(topic, |_| ()), many.walk(topic, |_| ()), "{topic}");
            assert_eq!(few.matches(topic), many.matches(topic), "{topic}");
        }
        assert_eq!(few.matches("data.request.btc").len(), 5);
    }

    #[test]
    fn adversarial_patterns_cost_nodes_times_words_at_most() {
        let words = 64;
        let topic = ["a"; 64].join(".");
        let patterns = [
            format!("{}b", "#.".repeat(100)),
            format!("{}b", "#.a.".repeat(60)),
            format!("{}b", "#.*.".repeat(60)),
            format!("{}b", "*.#.#.a.".repeat(30)),
        ];
        let table = table_of(patterns.iter().map(String::as_str));
        assert!(!table.is_match(&topic));
        // Twice: a node can stay and be entered in the same step.
        let bound = 2 * table.nodes.len() * (words + 1);
        assert!(table.walk(&topic, |_| ()) <= bound);
    }
}
