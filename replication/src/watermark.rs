//! The watermarks of a receiver. Everything below the exclusive high mark has been
//! sent; everything below the inclusive low mark is done. Tasks arrive in order of their ids and finish in
//! any order; the low mark is the first unfinished one. Pure: the stream's task owns one and asks it.
//!
//! Invariant: the low mark never passes an unfinished task, and never falls.

use std::collections::VecDeque;

use proto_ids::{TaskId, Timestamp};

/// A position and the sender's time that goes with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The position.
    pub id: TaskId,
    /// The sender's clock; lag is computed by comparing the sender's times with each other.
    pub time: Timestamp,
}

/// The reception of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// Process its tasks.
    New,
    /// It was received before, on a connection that broke: drop it.
    Repeated,
}

/// A message that breaks the protocol; the stream has to be opened anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// Ids do not rise within the message.
    #[error("task {id} follows task {before}")]
    NotRising {
        /// The task.
        id: TaskId,
        /// The one before it.
        before: TaskId,
    },
    /// The message's mark is not above its tasks.
    #[error("the watermark {mark} does not cover task {id}")]
    NotCovered {
        /// The mark.
        mark: TaskId,
        /// The task.
        id: TaskId,
    },
}

/// The receiver's side of one stream.
#[derive(Debug, Default)]
pub struct Watermark {
    high: Option<Mark>,
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    mark: Mark,
    done: bool,
}

impl Watermark {
    /// Takes note of a message: its tasks in order, and its exclusive high mark.
    pub fn arrive(
        &mut self,
        tasks: impl IntoIterator<Item = Mark>,
        high: Mark,
    ) -> Result<Reception, Disorder> {
        let tasks: Vec<Mark> = tasks.into_iter().collect();
        for pair in tasks.windows(2) {
            if pair[1].id <= pair[0].id {
                return Err(Disorder::NotRising {
                    id: pair[1].id,
                    before: pair[0].id,
                });
            }
        }
        if let Some(last) = tasks.last().filter(|last| last.id >= high.id) {
            return Err(Disorder::NotCovered {
                mark: high.id,
                id: last.id,
            });
        }
        if let Some(known) = self.high.as_mut().filter(|known| high.id <= known.id) {
            // An idle sender repeats its mark to say that it is alive and that nothing is late.
            if tasks.is_empty() && high.id == known.id {
                known.time = known.time.max(high.time);
            }
            return Ok(Reception::Repeated);
        }
        self.high = Some(high);
        self.pending
            .extend(tasks.into_iter().map(|mark| Pending { mark, done: false }));
        Ok(Reception::New)
    }

    /// A task is done: applied, seen before, skipped for a reason, or safe among the dead letters.
    pub fn finish(&mut self, id: TaskId) {
        if let Ok(at) = self.pending.binary_search_by_key(&id, |p| p.mark.id) {
            self.pending[at].done = true;
        }
        while self.pending.front().is_some_and(|p| p.done) {
            self.pending.pop_front();
        }
    }

    /// The low mark: the first unfinished task, or the high mark when all are finished. None before the
    /// first message, when nothing may be acknowledged.
    pub fn low(&self) -> Option<Mark> {
        self.pending.front().map(|p| p.mark).or(self.high)
    }

    /// The exclusive high mark.
    pub fn high(&self) -> Option<Mark> {
        self.high
    }

    /// Tasks between the marks, finished ones among them included.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: i64) -> Mark {
        Mark {
            id: TaskId::new(id),
            time: Timestamp::from_millis(id),
        }
    }

    #[test]
    fn the_low_mark_is_the_first_unfinished() {
        let mut marks = Watermark::default();
        assert_eq!(marks.low(), None);
        assert_eq!(marks.arrive([], mark(10)), Ok(Reception::New));
        assert_eq!(marks.low(), Some(mark(10)));
        for id in [10, 12, 17] {
            assert_eq!(marks.arrive([mark(id)], mark(id + 1)), Ok(Reception::New));
        }
        marks.finish(12.into());
        assert_eq!(marks.low(), Some(mark(10)));
        marks.finish(10.into());
        assert_eq!((marks.low(), marks.pending()), (Some(mark(17)), 1));
        marks.finish(17.into());
        marks.finish(17.into());
        assert_eq!(
            (marks.low(), marks.high()),
            (Some(mark(18)), Some(mark(18)))
        );
    }

    #[test]
    fn repeated_messages_are_dropped_whole() {
        let mut marks = Watermark::default();
        marks.arrive([mark(5), mark(7)], mark(8)).unwrap();
        assert_eq!(marks.arrive([mark(5)], mark(6)), Ok(Reception::Repeated));
        assert_eq!(marks.arrive([mark(7)], mark(8)), Ok(Reception::Repeated));
        assert_eq!(marks.pending(), 2);
        let later = Mark {
            id: 8.into(),
            time: Timestamp::from_millis(99),
        };
        assert_eq!(marks.arrive([], later), Ok(Reception::Repeated));
        marks.finish(5.into());
        marks.finish(7.into());
        assert_eq!(marks.low(), Some(later));
    }

    #[test]
    fn a_sender_that_breaks_the_order_is_refused() {
        let mut marks = Watermark::default();
        assert!(matches!(
            marks.arrive([mark(7), mark(7)], mark(9)),
            Err(Disorder::NotRising { .. })
        ));
        assert!(matches!(
            marks.arrive([mark(9)], mark(9)),
            Err(Disorder::NotCovered { .. })
        ));
        assert_eq!(marks.high(), None);
    }
}
