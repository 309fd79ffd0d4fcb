//! The threads of a processor device. A job is a number of tasks that any thread may take; which one
//! takes which never changes a result, because a task's output depends on its number alone. Not a
//! general scheduler: one job at a time, and a caller that finds the pool busy does its job alone.
#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Turns a waiting thread spins before it sleeps: some tens of microseconds, the time between two
/// ops of a training step.
const SPINS: u32 = 4000;

/// Threads that wait for jobs.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    start: Condvar,
    finish: Condvar,
    /// Number of jobs begun; what idle workers watch without a lock.
    epoch: AtomicU64,
    /// Workers inside the job; what the caller watches without a lock.
    inside: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    job: Option<Job>,
    stop: bool,
    sleeping: usize,
    panic: Option<Payload>,
}

struct Payload(Box<dyn Any + Send>);

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("panic")
    }
}

/// A job on its caller's stack. Workers reach it only between `enter` and `leave`, and the caller
/// leaves its frame only when all of them have left.
#[derive(Clone, Copy, Debug)]
struct Job {
    task: *const (dyn Fn(usize, usize) + Sync),
    next: *const AtomicUsize,
    count: usize,
}

// SAFETY: both pointers lead to `Sync` values that outlive every use, see `Job`.
unsafe impl Send for Job {}

impl Job {
    /// Takes tasks until none is left.
    fn work(self, thread: usize) {
        // SAFETY: the caller's frame is alive, see `Job`.
        let (task, next) = unsafe { (&*self.task, &*self.next) };
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= self.count {
                return;
            }
            task(i, thread);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.load(Ordering::Acquire) == seen && spins < SPINS {
                std::hint::spin_loop();
                spins += 1;
            }
            let mut state = self.lock();
            while self.epoch.load(Ordering::Acquire) == seen && !state.stop {
                state.sleeping += 1;
                state = self.start.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleeping -= 1;
            }
            if state.stop {
                return;
            }
            seen = self.epoch.load(Ordering::Acquire);
            let Some(job) = state.job else { continue };
            self.inside.fetch_add(1, Ordering::AcqRel);
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| job.work(thread)));
            let mut state = self.lock();
            if let Err(panic) = result {
                state.panic = Some(Payload(panic));
            }
            if self.inside.fetch_sub(1, Ordering::AcqRel) == 1 {
                self.finish.notify_all();
            }
        }
    }

    /// Ends the job: nobody may enter any more, and whoever is inside is waited for.
    fn close(&self) -> Option<Payload> {
        self.lock().job = None;
        let mut spins = 0;
        while self.inside.load(Ordering::Acquire) > 0 && spins < SPINS {
            std::hint::spin_loop();
            spins += 1;
        }
        let mut state = self.lock();
        while self.inside.load(Ordering::Acquire) > 0 {
            state = self.finish.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.panic.take()
    }
}

impl Pool {
    /// A pool in which `threads` threads work on a job: the caller and `threads − 1` of its own (fewer
    /// where the system refuses more).
    pub(crate) fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared::default());
        let spawn = |thread| {
            let shared = shared.clone();
            let name = format!("math-{thread}");
            std::thread::Builder::new().name(name).spawn(move || shared.serve(thread)).ok()
        };
        let workers = (1..threads.max(1)).map_while(spawn).collect();
        Pool { shared, busy: Mutex::new(()), workers }
    }

    /// Threads that may work on a job, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i, thread)` for each i below `count`, in any order, on any of the threads; returns
    /// when all are done. `thread` is below [`Pool::threads`], and no two tasks run at once under the
    /// same number.
    pub(crate) fn run(&self, count: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let guard = match self.busy.try_lock() {
            _ if count <= 1 || self.workers.is_empty() => None,
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if guard.is_none() {
            return (0..count).for_each(|i| task(i, 0));
        }
        let next = AtomicUsize::new(0);
        // SAFETY: only the lifetime changes; `close` below keeps this frame alive until no worker
        // holds the pointers.
        let task: *const (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(task) };
        let job = Job { task, next: &next, count };
        {
            let mut state = self.shared.lock();
            state.job = Some(job);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            if state.sleeping > 0 {
                self.shared.start.notify_all();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| job.work(0)));
        let others = self.shared.close();
        if let Some(panic) = own.err().or(others.map(|p| p.0)) {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.start.notify_all();
        for worker in self.workers.drain(..) {
            // a worker that panicked has already handed its panic to the caller of the job
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for count in [0, 1, 2, 100] {
                for _ in 0..50 {
                    let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                    pool.run(count, &|i, thread| {
                        assert!(thread < threads);
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn callers_at_once_and_a_job_inside_a_job_do_not_wait_for_each_other() {
        let pool = Pool::new(2);
        let total = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..100 {
                        pool.run(8, &|_, _| {
                            pool.run(2, &|_, _| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 100 * 8 * 2);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let boom = || {
            pool.run(64, &|i, _| {
                std::thread::yield_now();
                assert_ne!(i, 40);
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(boom)).is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, &|i, _| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 45);
    }
}
