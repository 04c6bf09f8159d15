//! A place in the trie: what the words so far lead to.
//!
//! A cold lookup costs what it waits for memory, so all that most nodes have, one next word and one
//! value, lies in the node itself.

use std::collections::HashMap;

use smallvec::SmallVec;

/// A place in the table's list of nodes.
pub(super) type NodeId = u32;

/// A word; those of up to 16 bytes take no memory of their own.
type Word = SmallVec<[u8; 16]>;

#[derive(Clone, Debug)]
pub(super) struct Node<T> {
    pub(super) values: SmallVec<[T; 1]>,
    pub(super) star: Option<NodeId>,
    pub(super) hash: Option<NodeId>,
    /// Whether a `#` led here, so that any further word stays here.
    pub(super) stays: bool,
    words: Words,
}

/// The next words that are no wildcards.
#[derive(Clone, Debug)]
enum Words {
    None,
    One(Word, NodeId),
    Many(HashMap<Word, NodeId>),
}

impl<T> Node<T> {
    pub(super) fn new(stays: bool) -> Self {
        Self { values: SmallVec::new(), star: None, hash: None, stays, words: Words::None }
    }

    /// Where this word of a topic leads, wildcards aside.
    pub(super) fn literal(&self, word: &str) -> Option<NodeId> {
        match &self.words {
            Words::None => None,
            Words::One(only, child) => (**only == *word.as_bytes()).then_some(*child),
            Words::Many(words) => words.get(word.as_bytes()).copied(),
        }
    }

    /// Where this word of a pattern leads.
    pub(super) fn child(&self, word: &str) -> Option<NodeId> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            _ => self.literal(word),
        }
    }

    /// Links the node to one that it has not been linked to by this word of a pattern.
    pub(super) fn link(&mut self, word: &str, child: NodeId) {
        match word {
            "*" => self.star = Some(child),
            "#" => self.hash = Some(child),
            _ => {
                let word = Word::from_slice(word.as_bytes());
                self.words = match std::mem::replace(&mut self.words, Words::None) {
                    Words::None => Words::One(word, child),
                    Words::One(other, sibling) => {
                        Words::Many(HashMap::from([(other, sibling), (word, child)]))
                    }
                    Words::Many(mut words) => {
                        words.insert(word, child);
                        Words::Many(words)
                    }
                };
            }
        }
    }

    /// Removes the link by this word of a pattern.
    pub(super) fn unlink(&mut self, word: &str) {
        match (word, &mut self.words) {
            ("*", _) => self.star = None,
            ("#", _) => self.hash = None,
            (_, Words::Many(words)) if words.len() > 1 => drop(words.remove(word.as_bytes())),
            _ => self.words = Words::None,
        }
    }

    /// Whether the node has no values and leads nowhere.
    pub(super) fn is_bare(&self) -> bool {
        self.values.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
            && matches!(self.words, Words::None)
    }
}
