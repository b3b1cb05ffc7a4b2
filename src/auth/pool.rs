//! The threads that hash passwords: one for each core, of low priority, with a short queue. So logins can neither fill
//! the memory nor starve other requests.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use argon2::Block;
use crossbeam_channel::{Receiver, Sender};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{config::cores, problem::Problem, telemetry::count_shed};

/// How many jobs may wait for each job that runs. That is about a second of work.
const QUEUE_PER_THREAD: usize = 32;
/// The niceness of these threads. Other threads go first. If a hashing thread shares a core with another thread, it
/// gets a tenth of the core.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;
/// The size of a large page on x86-64, and on aarch64 with its usual pages. Elsewhere the advice has no effect.
const LARGE_PAGE: usize = 2 * 1024 * 1024;

/// How long a thread keeps its memory for the next job. Getting memory from the system takes some milliseconds
/// (benches/logins.rs).
const KEPT_FOR: Duration = Duration::from_secs(1);
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// The memory that a thread hashes in. The system gives it page by page, and gets all of it back when it is dropped.
#[derive(Default)]
pub struct Memory(Option<MmapMut>);

impl Memory {
    /// At least this many blocks, with any content.
    pub fn blocks(&mut self, count: usize) -> Result<&mut [Block], Problem> {
        let needed = count * Block::SIZE;
        let kept = self.0.take().filter(|kept| kept.len() >= needed);
        let mapped = kept.map_or_else(|| map(needed), Ok).map_err(|error| {
            count_shed("memory");
            Problem::unavailable("overloaded", "No memory is free. Try again in a moment.")
                .because(error)
        })?;
        // SAFETY: a block is an array of integers, and any bytes are valid integers.
        #[expect(unsafe_code, reason = "argon2 wants blocks, a mapping has bytes")]
        let (_, blocks, _) = unsafe { self.0.insert(mapped).align_to_mut() };
        Ok(blocks)
    }
}

/// Maps memory, and asks for large pages for the part that fills whole ones. Argon2 reads its memory in random order,
/// and is a few percent faster if the memory consists of fewer pages (benches/logins.rs).
fn map(bytes: usize) -> io::Result<MmapMut> {
    // Linux aligns memory to large pages if its size is a multiple of theirs.
    let mapped = MmapMut::map_anon(bytes.next_multiple_of(LARGE_PAGE))?;
    // A kernel without large pages refuses, which does no harm.
    #[cfg(target_os = "linux")]
    let _ = mapped.advise_range(Advice::HugePage, 0, bytes / LARGE_PAGE * LARGE_PAGE);
    Ok(mapped)
}

/// One thread for each core, and permits for the jobs that run and the jobs that wait.
pub struct Pool {
    most: usize,
    permits: Arc<Semaphore>,
    jobs: Sender<Job>,
}

/// The right to run one job in the pool.
pub struct Permit {
    permit: OwnedSemaphorePermit,
    jobs: Sender<Job>,
}

impl Pool {
    /// A pool with one thread for each core of the machine.
    pub fn new() -> io::Result<Self> {
        let cores = cores();
        let (jobs, queue) = crossbeam_channel::unbounded();
        for _ in 0..cores {
            let queue = queue.clone();
            thread::Builder::new()
                .name("password-hash".to_owned())
                .spawn(move || work_off(&queue))?;
        }
        let most = cores * (1 + QUEUE_PER_THREAD);
        Ok(Pool {
            most,
            permits: Arc::new(Semaphore::new(most)),
            jobs,
        })
    }

    /// Sets the gauges of the queue.
    pub fn observe(&self) {
        let taken = self.most - self.permits.available_permits();
        metrics::gauge!("password_queue_places").set(self.most as f64);
        metrics::gauge!("password_queue_taken").set(taken as f64);
        metrics::gauge!("password_queue_waiting").set(self.jobs.len() as f64);
    }

    /// A permit, or 503 at once if all are taken.
    pub fn acquire(&self) -> Result<Permit, Problem> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| {
            count_shed("passwords");
            Problem::unavailable(
                "overloaded",
                "Too many people are logging in. Try again in a moment.",
            )
        })?;
        Ok(Permit {
            permit,
            jobs: self.jobs.clone(),
        })
    }
}

impl Permit {
    /// Runs a job in the pool. The permit moves into the job, so a client that hangs up frees nothing early.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (tell, told) = oneshot::channel();
        let permit = self.permit;
        let asked = Instant::now();
        let job: Job = Box::new(move |memory| {
            let _held = permit;
            metrics::histogram!("password_queue_wait_seconds").record(asked.elapsed());
            // The client may have hung up while the job waited.
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
    // On Linux this sets the priority of the thread. Elsewhere it would set that of the whole service.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::warn!("passwords are hashed with normal priority: {error}");
    }
    let mut memory = Memory::default();
    while let Ok(job) = queue.recv_timeout(KEPT_FOR).or_else(|_| {
        memory = Memory::default();
        queue.recv()
    }) {
        // The panic has been reported already. The client that waits for the job gets 500.
        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
    }
}
