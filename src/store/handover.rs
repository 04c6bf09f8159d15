//! Hands over what was taken out of a store, or puts it back where nobody waits any more.

/// A value on its way; dropped before it is accepted, it is undone.
pub(super) struct Handover<T> {
    value: Option<T>,
    undo: Option<Box<dyn FnOnce(T) + Send>>,
}

impl<T> Handover<T> {
    pub(super) fn new(value: T, undo: impl FnOnce(T) + Send + 'static) -> Self {
        Self { value: Some(value), undo: Some(Box::new(undo)) }
    }

    pub(super) fn accept(mut self) -> Option<T> {
        self.value.take()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        if let (Some(value), Some(undo)) = (self.value.take(), self.undo.take()) {
            undo(value);
        }
    }
}
