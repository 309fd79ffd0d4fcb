//! How lists are made: the ranks' rules are played through in time, and what each did is its list,
//! so that no list waits for what another has later.
//!
//! The rule of a rank: first a number of forwards (the warm-up), then a forward and a backward in
//! turn, then the backwards that are left. Forwards go by rounds of N micro-batches, in each round
//! chunk by chunk; backwards the same, from the last chunk to the first. Where every rank would wait
//! for another by that rule (a small N does that), one of them does what is ready in place of what
//! is next.

use super::verify::Game;
use super::{Action, Kind, Shape, Work};

/// The order of forwards: the same on each rank.
pub(super) fn forwards(shape: &Shape) -> Vec<Action> {
    in_rounds(shape, Work::Forward)
}

fn in_rounds(shape: &Shape, work: Work) -> Vec<Action> {
    let (all, n) = (shape.micro_batches, shape.contiguous());
    let mut actions = Vec::with_capacity(all * shape.chunks);
    for first in (0..all).step_by(n) {
        for chunk in 0..shape.chunks {
            let chunk = if work == Work::Forward { chunk } else { shape.chunks - 1 - chunk };
            let round = first..all.min(first + n);
            actions.extend(round.map(|micro_batch| Action { work, micro_batch, chunk }));
        }
    }
    actions
}

/// Forwards of a rank before its first backward.
pub(super) fn warm_up(shape: &Shape, rank: usize) -> usize {
    let behind = shape.ranks - 1 - rank;
    let forwards = match shape.chunks {
        1 => behind,
        chunks => (chunks - 1) * shape.contiguous() + 2 * behind,
    };
    forwards.min(shape.chunks * shape.micro_batches)
}

/// Where a rank stands in its orders.
struct Rank {
    warm_up: usize,
    forwards: usize,
    backwards: usize,
    weights: usize,
    list: Vec<Action>,
}

struct Build<'a> {
    shape: &'a Shape,
    forwards: Vec<Action>,
    backwards: Vec<Action>,
    ranks: Vec<Rank>,
    game: Game<'a>,
}

/// The lists of a step.
pub(super) fn training(shape: &Shape) -> Vec<Vec<Action>> {
    let rank = |rank| Rank {
        warm_up: warm_up(shape, rank),
        forwards: 0,
        backwards: 0,
        weights: 0,
        list: Vec::new(),
    };
    let mut build = Build {
        shape,
        forwards: forwards(shape),
        backwards: in_rounds(shape, Work::Backward),
        ranks: (0..shape.ranks).map(rank).collect(),
        game: Game::new(shape),
    };
    build.play();
    build.ranks.into_iter().map(|rank| rank.list).collect()
}

impl Build<'_> {
    fn play(&mut self) {
        let all = self.forwards.len();
        let splits = self.shape.kind == Kind::ZeroBubble;
        let works = if splits { 3 } else { 2 };
        let mut left = works * all * self.shape.ranks;
        while left > 0 {
            let now = self.game.now();
            let mut moved = 0;
            for rank in 0..self.shape.ranks {
                if self.game.free_at(rank) <= now && self.turn(rank) {
                    moved += 1;
                }
            }
            left -= moved;
            if moved == 0 && !self.game.advance() {
                // by the rules all wait for each other
                if !(0..self.shape.ranks).any(|rank| self.anything(rank)) {
                    // lists that lack something are refused when they are verified
                    return;
                }
                left -= 1;
            }
        }
    }

    /// Does what is next on a rank, if it can.
    fn turn(&mut self, rank: usize) -> bool {
        let next = self.next(rank);
        let can = next.is_some_and(|action| self.game.is_ready(rank, action));
        match (can, self.shape.kind) {
            (true, _) => self.take(rank, next),
            (false, Kind::ZeroBubble) => {
                let weight = self.weight(rank);
                self.take(rank, weight)
            }
            (false, Kind::OneForwardOneBackward) => false,
        }
    }

    /// What the rule says is next.
    fn next(&self, rank: usize) -> Option<Action> {
        let r = &self.ranks[rank];
        let (forward, backward) = (self.forwards.get(r.forwards), self.backwards.get(r.backwards));
        // as many forwards ahead as in the warm-up, and the one whose turn it is
        let ahead = r.forwards - r.backwards;
        let forward = forward.filter(|_| ahead <= r.warm_up);
        let next = forward.or(backward).copied()?;
        let full = next.work == Work::Forward && r.forwards - r.weights > r.warm_up;
        match self.shape.kind {
            Kind::ZeroBubble if full => self.weight(rank).or(Some(next)),
            _ => Some(next),
        }
    }

    /// The oldest backward whose weight gradients are still to be computed.
    fn weight(&self, rank: usize) -> Option<Action> {
        let r = &self.ranks[rank];
        let backward = self.backwards.get(r.weights).filter(|_| r.weights < r.backwards)?;
        Some(Action { work: Work::Weight, ..*backward })
    }

    /// Does what is ready, whatever the rule says.
    fn anything(&mut self, rank: usize) -> bool {
        let r = &self.ranks[rank];
        let backward = self.backwards.get(r.backwards).copied();
        let forward = self.forwards.get(r.forwards).copied();
        let mut ready = [backward, forward].into_iter().flatten();
        let found = ready.find(|action| self.game.is_ready(rank, *action));
        self.take(rank, found)
    }

    fn take(&mut self, rank: usize, action: Option<Action>) -> bool {
        let Some(action) = action else { return false };
        self.game.take(rank, action);
        let r = &mut self.ranks[rank];
        match action.work {
            Work::Forward => r.forwards += 1,
            Work::Backward => r.backwards += 1,
            Work::Weight => r.weights += 1,
        }
        r.list.push(action);
        true
    }
}
