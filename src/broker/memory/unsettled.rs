//! The messages that were handed out and not settled.

use super::ready::Message;

/// Messages by the tag of their delivery.
///
/// Slots are used again, so that settling is an index and not a search. The tag says which use
/// of the slot it means; one that was taken back is no longer known.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    uses: u32,
    held: Option<(Holder, Message)>,
}

/// Who has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) consumer: u64,
    /// Outlives the consumer: what a cancelled one holds may still be settled.
    pub(super) connection: u64,
}

impl Unsettled {
    /// Keeps a message that is handed out, and returns the tag of the delivery.
    pub(super) fn insert(&mut self, holder: Holder, message: Message) -> u64 {
        let held = Some((holder, message));
        if let Some(at) = self.free.pop() {
            let slot = &mut self.slots[at as usize];
            slot.held = held;
            return tag(slot.uses, at);
        }
        let at = u32::try_from(self.slots.len()).expect("memory ends before 2^32 deliveries");
        self.slots.push(Slot { uses: 0, held });
        tag(0, at)
    }

    /// Removes a delivery; `None` if it was settled or taken back before.
    pub(super) fn take(&mut self, tag: u64) -> Option<(Holder, Message)> {
        let (uses, at) = parts(tag);
        let slot = self.slots.get_mut(at as usize).filter(|slot| slot.uses == uses)?;
        let held = slot.held.take()?;
        slot.uses = slot.uses.wrapping_add(1);
        self.free.push(at);
        Some(held)
    }

    /// Takes back everything that was handed out over `connection`.
    pub(super) fn take_back(&mut self, connection: u64) -> Vec<Message> {
        let tag_of_gone = |(at, slot): (u32, &Slot)| {
            let (holder, _) = slot.held.as_ref()?;
            (holder.connection == connection).then(|| tag(slot.uses, at))
        };
        let tags: Vec<u64> = (0..).zip(&self.slots).filter_map(tag_of_gone).collect();
        tags.into_iter().filter_map(|tag| Some(self.take(tag)?.1)).collect()
    }

    pub(super) fn len(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }
}

fn tag(uses: u32, at: u32) -> u64 {
    (u64::from(uses) << 32) | u64::from(at)
}

#[expect(clippy::cast_possible_truncation, reason = "a tag is two numbers of 32 bits")]
fn parts(tag: u64) -> (u32, u32) {
    ((tag >> 32) as u32, tag as u32)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::ready::Ready, *};

    fn message() -> Message {
        let mut ready = Ready::default();
        ready.push(Arc::default(), None);
        ready.pop().unwrap()
    }

    fn by(connection: u64) -> Holder {
        Holder { consumer: 0, connection }
    }

    #[test]
    fn a_tag_is_good_once() {
        let mut unsettled = Unsettled::default();
        let first = unsettled.insert(by(1), message());
        assert_eq!(unsettled.take(first).unwrap().0, by(1));
        assert!(unsettled.take(first).is_none());
        let second = unsettled.insert(by(2), message());
        assert!(unsettled.take(first).is_none(), "the slot is used again, the tag is not");
        assert_eq!(unsettled.take(second).unwrap().0, by(2));
        assert_eq!(unsettled.len(), 0);
    }

    #[test]
    fn what_a_connection_has_is_taken_back() {
        let mut unsettled = Unsettled::default();
        let tags = [1, 2, 1].map(|connection| unsettled.insert(by(connection), message()));
        assert_eq!(unsettled.take_back(1).len(), 2);
        assert_eq!(unsettled.len(), 1);
        assert!(unsettled.take(tags[0]).is_none());
        assert!(unsettled.take(tags[1]).is_some());
    }
}
