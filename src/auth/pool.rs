//! The threads that hash passwords: as many as cores, of low priority, with a short queue, so that logins can
//! neither fill the memory nor starve the rest.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use argon2::Block;
use crossbeam_channel::{Receiver, Sender};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{config::cores, problem::Problem};

/// How many may wait for each one that is being hashed: a second or so of work.
const QUEUE_PER_THREAD: usize = 32;
/// How much nicer than the rest: who has something to do goes first; against one of them a tenth of a core is left.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;
/// Of x86-64, and of aarch64 with its usual pages; elsewhere the advice does nothing.
const LARGE_PAGE: usize = 2 * 1024 * 1024;

/// How long a thread keeps its memory for the next job. A login that comes alone finds it there: making it anew takes
/// the system some milliseconds (benches/logins.rs).
const KEPT_FOR: Duration = Duration::from_secs(1);
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// What a thread hashes in: the system gives it page by page, and has all of it back when it is dropped.
#[derive(Default)]
pub struct Memory(Option<MmapMut>);

impl Memory {
    /// At least so many blocks, with whatever was in them.
    pub fn blocks(&mut self, count: usize) -> Result<&mut [Block], Problem> {
        let needed = count * Block::SIZE;
        let kept = self.0.take().filter(|kept| kept.len() >= needed);
        let mapped = kept.map_or_else(|| map(needed), Ok).map_err(|error| {
            Problem::unavailable("overloaded", "No memory is free: try again in a moment.")
                .because(error)
        })?;
        // SAFETY: a block is an array of integers, which any bytes are.
        let (_, blocks, _) = unsafe { self.0.insert(mapped).align_to_mut() };
        Ok(blocks)
    }
}

/// In large pages as far as they are used in whole: Argon2 goes through its memory at random, and is some hundredths
/// faster where fewer pages hold it (benches/logins.rs).
fn map(bytes: usize) -> io::Result<MmapMut> {
    // Linux places what is a multiple of them so that it begins with one.
    let mapped = MmapMut::map_anon(bytes.next_multiple_of(LARGE_PAGE))?;
    // A kernel without them refuses, and nothing is lost.
    #[cfg(target_os = "linux")]
    let _ = mapped.advise_range(Advice::HugePage, 0, bytes / LARGE_PAGE * LARGE_PAGE);
    Ok(mapped)
}

/// One thread for each core, and places for what they work on and for what waits for them.
pub struct Pool {
    places: Arc<Semaphore>,
    jobs: Sender<Job>,
}

/// A place in the pool: one job may be run.
pub struct Place {
    place: OwnedSemaphorePermit,
    jobs: Sender<Job>,
}

impl Pool {
    /// As wide as the machine has cores.
    pub fn new() -> io::Result<Self> {
        let cores = cores();
        let (jobs, queue) = crossbeam_channel::unbounded();
        for _ in 0..cores {
            let queue = queue.clone();
            thread::Builder::new()
                .name("password-hash".to_owned())
                .spawn(move || work_off(&queue))?;
        }
        Ok(Pool {
            places: Arc::new(Semaphore::new(cores * (1 + QUEUE_PER_THREAD))),
            jobs,
        })
    }

    /// A place, or 503 at once where all are taken.
    pub fn admit(&self) -> Result<Place, Problem> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Problem::unavailable(
                "overloaded",
                "Too many people are logging in: try again in a moment.",
            )
        })?;
        Ok(Place {
            place,
            jobs: self.jobs.clone(),
        })
    }
}

impl Place {
    /// Runs in the pool. The place moves into the job: a client that hangs up frees nothing early.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (tell, told) = oneshot::channel();
        let place = self.place;
        let job: Job = Box::new(move |memory| {
            let _held = place;
            // It may have hung up while it waited.
            if !tell.is_closed() {
                let _ = tell.send(work(memory));
            }
        });
        self.jobs
            .send(job)
            .map_err(|_| Problem::internal("no thread hashes passwords"))?;
        told.await.map_err(Problem::internal)
    }
}

fn work_off(queue: &Receiver<Job>) {
    // A thread's own on Linux; elsewhere it would be the whole service's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!("passwords are hashed with normal priority: {error}");
    }
    let mut memory = Memory::default();
    while let Ok(job) = queue.recv_timeout(KEPT_FOR).or_else(|_| {
        memory = Memory::default();
        queue.recv()
    }) {
        // A panic has been reported when it comes here; whoever waits for the job is answered with 500.
        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
    }
}
