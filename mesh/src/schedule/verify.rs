//! What a schedule must be: each forward once, its backward once and later, and lists that can be
//! done in their order by ranks that wait for each other; and how long that takes.

use super::{Action, Kind, Schedule, Shape, Work};
use crate::Error;

/// How long the work on a micro-batch takes in one chunk, in units of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// A forward.
    pub forward: u64,
    /// A backward, or the half of it that gives the gradient of the input.
    pub backward: u64,
    /// The half that gives the gradients of the weights.
    pub weight: u64,
}

impl Costs {
    /// A product's backward is two products.
    pub fn of(kind: Kind) -> Costs {
        match kind {
            Kind::OneForwardOneBackward => Costs { forward: 1, backward: 2, weight: 0 },
            Kind::ZeroBubble => Costs { forward: 1, backward: 1, weight: 1 },
        }
    }

    fn work(&self, work: Work) -> u64 {
        match work {
            Work::Forward => self.forward,
            Work::Backward => self.backward,
            Work::Weight => self.weight,
        }
    }
}

/// Ranks that do actions in time, where numbers travel at once.
pub(super) struct Game<'a> {
    shape: &'a Shape,
    costs: Costs,
    now: u64,
    free: Vec<u64>,
    /// When a stage's forward and backward of a micro-batch are done.
    done: [Vec<Option<u64>>; 2],
}

impl<'a> Game<'a> {
    pub(super) fn new(shape: &'a Shape) -> Game<'a> {
        let none = vec![None; shape.stages() * shape.micro_batches];
        let (costs, free) = (Costs::of(shape.kind), vec![0; shape.ranks]);
        Game { shape, costs, now: 0, free, done: [none.clone(), none] }
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn free_at(&self, rank: usize) -> u64 {
        self.free[rank]
    }

    /// Goes on to when the next rank is free; false where all are.
    pub(super) fn advance(&mut self) -> bool {
        let next = self.free.iter().filter(|free| **free > self.now).min();
        next.is_some_and(|next| {
            self.now = *next;
            true
        })
    }

    fn at(&self, stage: usize, micro_batch: usize) -> usize {
        stage * self.shape.micro_batches + micro_batch
    }

    /// When what an action reads is there; none where it is not known yet.
    fn inputs(&self, rank: usize, action: Action) -> Option<u64> {
        let Action { work, micro_batch, chunk } = action;
        let stage = chunk * self.shape.ranks + rank;
        let [forward, backward] = &self.done;
        let last = self.shape.stages() - 1;
        match work {
            Work::Forward if stage == 0 => Some(0),
            Work::Forward => forward[self.at(stage - 1, micro_batch)],
            Work::Backward if stage == last => forward[self.at(stage, micro_batch)],
            Work::Backward => {
                let own = forward[self.at(stage, micro_batch)]?;
                backward[self.at(stage + 1, micro_batch)].map(|other| other.max(own))
            }
            Work::Weight => backward[self.at(stage, micro_batch)],
        }
    }

    pub(super) fn is_ready(&self, rank: usize, action: Action) -> bool {
        self.inputs(rank, action).is_some_and(|at| at <= self.now)
    }

    /// Does an action; from when to when.
    pub(super) fn take(&mut self, rank: usize, action: Action) -> (u64, u64) {
        let inputs = self.inputs(rank, action).unwrap_or(self.now);
        let start = self.free[rank].max(inputs).max(self.now);
        let end = start + self.costs.work(action.work);
        self.free[rank] = end;
        let place = self.at(action.chunk * self.shape.ranks + rank, action.micro_batch);
        match action.work {
            Work::Forward => self.done[0][place] = Some(end),
            Work::Backward => self.done[1][place] = Some(end),
            Work::Weight => {}
        }
        (start, end)
    }
}

/// An action with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// What is done.
    pub action: Action,
    /// From when.
    pub start: u64,
    /// To when.
    pub end: u64,
}

/// A schedule in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Of each rank.
    pub ranks: Vec<Vec<Timed>>,
    /// When the last rank is done.
    pub end: u64,
}

impl Timeline {
    /// Time that ranks wait, over the time that they work (paper, section 3.3.2: the bubble ratio,
    /// (PP − 1) / (V · M) where all rounds are full).
    pub fn bubble(&self) -> f64 {
        let timed = self.ranks.iter().flatten();
        let work: u64 = timed.map(|timed| timed.end - timed.start).sum();
        match work {
            0 => 0.0,
            work => (self.end * self.ranks.len() as u64) as f64 / work as f64 - 1.0,
        }
    }
}

impl Schedule {
    /// When each action is done if every rank does its list in order, each action as soon as what it
    /// reads is there.
    ///
    /// # Errors
    /// [`Error::Schedule`]: an action that is missing, done twice or too early, or ranks that wait
    /// for each other.
    pub fn timeline(&self) -> Result<Timeline, Error> {
        for rank in 0..self.shape.ranks {
            self.check_list(rank)?;
        }
        let mut game = Game::new(&self.shape);
        game.costs = Costs::of(self.shape.kind);
        let mut ranks: Vec<Vec<Timed>> = vec![Vec::new(); self.shape.ranks];
        loop {
            let mut moved = false;
            for (rank, done) in ranks.iter_mut().enumerate() {
                while let Some(action) = self.lists[rank].get(done.len()).copied() {
                    if game.inputs(rank, action).is_none() {
                        break;
                    }
                    let (start, end) = game.take(rank, action);
                    done.push(Timed { action, start, end });
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        if let Some(rank) = (0..ranks.len()).find(|r| ranks[*r].len() < self.lists[*r].len()) {
            let next = self.lists[rank][ranks[rank].len()];
            return wrong(format!("rank {rank} waits for ever before {next:?}"));
        }
        let end = game.free.iter().copied().max().unwrap_or(0);
        Ok(Timeline { ranks, end })
    }

    /// Each forward once, its backward once and later, weights once and later still.
    fn check_list(&self, rank: usize) -> Result<(), Error> {
        let list = self.list(rank);
        let Shape { chunks, micro_batches, .. } = self.shape;
        let slot = |action: &Action| {
            (action.work as usize * chunks + action.chunk) * micro_batches + action.micro_batch
        };
        let mut places = vec![None; 3 * chunks * micro_batches];
        for (place, action) in list.iter().enumerate() {
            if action.chunk >= chunks || action.micro_batch >= micro_batches {
                return wrong(format!("rank {rank} does {action:?}, which there is not"));
            }
            if places[slot(action)].replace(place).is_some() {
                return wrong(format!("rank {rank} does {action:?} twice"));
            }
        }
        let trains = list.iter().any(|action| action.work != Work::Forward);
        let splits = trains && self.shape.kind == Kind::ZeroBubble;
        let works = [(true, Work::Forward), (trains, Work::Backward), (splits, Work::Weight)];
        for chunk in 0..chunks {
            for micro_batch in 0..micro_batches {
                let mut before = None;
                for (_, work) in works.iter().filter(|(wanted, _)| *wanted) {
                    let action = Action { work: *work, micro_batch, chunk };
                    let place = places[slot(&action)];
                    if place.is_none() || place <= before {
                        return wrong(format!("rank {rank} does {action:?} too early or never"));
                    }
                    before = place;
                }
            }
        }
        Ok(())
    }
}

fn wrong<T>(found: String) -> Result<T, Error> {
    let expected = "each forward once, then its backward, and no wait without end".into();
    Err(Error::Schedule { what: "list", found, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(ranks: usize, chunks: usize, micro_batches: usize, n: Option<usize>) -> Shape {
        let kind = Kind::OneForwardOneBackward;
        Shape { ranks, chunks, micro_batches, contiguous: n, kind }
    }

    fn check(shape: Shape) -> Timeline {
        let schedule = Schedule::new(shape).unwrap();
        let timeline = schedule.timeline().unwrap_or_else(|e| panic!("{shape:?}: {e}"));
        let all = shape.chunks * shape.micro_batches;
        for rank in 0..shape.ranks {
            assert!(schedule.peak(rank) <= all, "{shape:?}");
        }
        timeline
    }

    #[test]
    fn any_sizes_make_a_schedule() {
        for ranks in 1..=5 {
            for chunks in 1..=3 {
                for micro_batches in 0..=9 {
                    for n in [None, Some(1), Some(2), Some(3), Some(5), Some(20)] {
                        let shape = shape(ranks, chunks, micro_batches, n);
                        check(shape);
                        check(Shape { kind: Kind::ZeroBubble, ..shape });
                    }
                }
            }
        }
    }

    #[test]
    fn the_bubble_is_the_papers() {
        // (PP − 1) / (V · M), where M is a multiple of N = PP
        for (ranks, chunks, micro_batches) in
            [(2, 1, 4), (4, 1, 8), (4, 2, 8), (4, 2, 16), (2, 3, 6)]
        {
            let found = check(shape(ranks, chunks, micro_batches, Some(ranks))).bubble();
            let expected = (ranks - 1) as f64 / (chunks * micro_batches) as f64;
            assert!((found - expected).abs() < 1e-12, "{ranks} {chunks} {micro_batches}: {found}");
        }
    }

    #[test]
    fn zero_bubble_waits_less_and_holds_no_more() {
        for (ranks, micro_batches) in [(2, 4), (4, 8), (4, 10), (8, 16)] {
            let plain = shape(ranks, 1, micro_batches, None);
            let split = Shape { kind: Kind::ZeroBubble, ..plain };
            assert!(check(split).bubble() < 0.7 * check(plain).bubble());
            let peaks = |shape| {
                let schedule = Schedule::new(shape).unwrap();
                (0..ranks).map(|rank| schedule.peak(rank)).collect::<Vec<_>>()
            };
            assert_eq!(peaks(split), peaks(plain));
        }
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        let sound = Schedule::new(shape(2, 1, 2, None)).unwrap();
        let refused = |change: &dyn Fn(&mut Vec<Vec<Action>>), says: &str| {
            let mut schedule = sound.clone();
            change(&mut schedule.lists);
            let error = schedule.timeline().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        refused(&|lists| lists[0].truncate(3), "never");
        refused(&|lists| lists[1].swap(0, 1), "too early");
        refused(&|lists| lists[0][1] = lists[0][0], "twice");
        refused(
            &|lists| {
                lists[0].swap(1, 2);
                lists[1].rotate_left(2);
            },
            "waits for ever",
        );
        assert!(Schedule::new(shape(0, 1, 2, None)).is_err());
        assert!(Schedule::new(shape(1, 1, 2, Some(0))).is_err());
    }
}
