//! Which part of each class of calls is let in. While there is too much to do the least important class that
//! is not at its floor yet shrinks; afterwards the most important one grows back first.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Class;

/// All calls of a class.
pub(super) const WHOLE: u32 = 1 << 16;
/// The share that is always admitted: so that it shows when there is room again, and so that what is begun can
/// go on, if slowly, on a machine that is busy with something else.
const fn floor(class: Class) -> u32 {
    match class {
        Class::Progress => WHOLE,
        Class::Event => WHOLE / 4,
        Class::Read => WHOLE / 8,
        Class::Start => WHOLE / 32,
    }
}

/// Classes that may be refused, the least important first.
const REFUSABLE: [Class; 3] = [Class::Start, Class::Read, Class::Event];

/// The shares of all classes.
pub(super) struct Shares([Share; 3]);

struct Share {
    part: AtomicU32,
    /// Parts given so far, modulo [`WHOLE`]: calls are let in evenly, without a dice.
    given: AtomicU32,
}

impl Default for Shares {
    fn default() -> Self {
        let whole = || Share {
            part: AtomicU32::new(WHOLE),
            given: AtomicU32::new(0),
        };
        Self([whole(), whole(), whole()])
    }
}

impl Shares {
    fn share(&self, class: Class) -> Option<&Share> {
        let at = REFUSABLE.iter().position(|c| *c == class)?;
        self.0.get(at)
    }

    /// Whether this call is among those let in.
    pub(super) fn admit(&self, class: Class) -> bool {
        let Some(share) = self.share(class) else {
            return true;
        };
        let part = share.part.load(Ordering::Relaxed);
        if part >= WHOLE {
            return true;
        }
        let before = share.given.fetch_add(part, Ordering::Relaxed) % WHOLE;
        before + part >= WHOLE
    }

    /// The part of a class, of [`WHOLE`].
    pub(super) fn of(&self, class: Class) -> u32 {
        let part = |share: &Share| share.part.load(Ordering::Relaxed);
        self.share(class).map_or(WHOLE, part)
    }

    pub(super) fn are_whole(&self) -> bool {
        REFUSABLE.iter().all(|class| self.of(*class) == WHOLE)
    }

    /// Lets fewer in; of no class more important than `most`.
    pub(super) fn shrink(&self, most: Class) {
        let may_shrink = |class: &Class| *class >= most && self.of(*class) > floor(*class);
        let Some(class) = REFUSABLE.into_iter().find(may_shrink) else {
            return;
        };
        if let Some(share) = self.share(class) {
            let part = share.part.load(Ordering::Relaxed);
            let less = (part / 10 * 7).max(floor(class));
            share.part.store(less, Ordering::Relaxed);
        }
    }

    /// Lets more in.
    pub(super) fn grow(&self) {
        let growing = |class: &&Class| self.of(**class) < WHOLE;
        let growing = REFUSABLE.iter().rev().find(growing);
        if let Some(share) = growing.and_then(|c| self.share(*c)) {
            let part = share.part.load(Ordering::Relaxed);
            let more = part + (part / 4).max(WHOLE / 128);
            share.part.store(more.min(WHOLE), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(shares: &Shares, class: Class) -> usize {
        (0..1_000).filter(|_| shares.admit(class)).count()
    }

    #[test]
    fn new_work_is_refused_first_and_let_in_again_last() {
        let shares = Shares::default();
        for _ in 0..3 {
            shares.shrink(Class::Event);
        }
        assert_eq!(let_in(&shares, Class::Start), 342);
        assert_eq!(let_in(&shares, Class::Read), 1_000);
        for _ in 0..12 {
            shares.shrink(Class::Event);
        }
        assert!((30..=32).contains(&let_in(&shares, Class::Start)));
        assert!(let_in(&shares, Class::Read) < 1_000);
        assert_eq!(let_in(&shares, Class::Event), 1_000);
        for _ in 0..30 {
            shares.shrink(Class::Event);
        }
        assert_eq!(let_in(&shares, Class::Event), 250);
        assert_eq!(let_in(&shares, Class::Progress), 1_000);
        let least = shares.of(Class::Start);
        shares.grow();
        assert!(shares.of(Class::Event) > floor(Class::Event));
        assert_eq!(shares.of(Class::Start), least);
        for _ in 0..200 {
            shares.grow();
        }
        assert!(shares.are_whole());
    }

    #[test]
    fn what_is_kept_out_of_it_is_not_refused() {
        let shares = Shares::default();
        for _ in 0..100 {
            shares.shrink(Class::Start);
        }
        assert_eq!(shares.of(Class::Start), floor(Class::Start));
        assert_eq!(shares.of(Class::Read), WHOLE);
    }
}
