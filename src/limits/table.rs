//! A table of clients that never grows.
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "any bits of a hash will do, and an index is taken modulo the length"
)]

use std::{
    hash::{BuildHasher, Hash, RandomState},
    marker::PhantomData,
    sync::{Mutex, PoisonError},
};

use governor::{nanos::Nanos, state::StateStore};

/// The number of clients that share a place in the table of a limit, and the number of places. So a table takes 256
/// KiB.
const WAYS: usize = 8;
const PLACES: usize = 2048;

/// The states of a limit's clients, in a table that never grows, however many clients come.
///
/// A client that finds its place full takes the slot of the client with the shortest wait. So clients that have used
/// much are not forgotten because of a million clients that use little. A client that has been idle for long has its
/// whole rate again, so its state need not be remembered.
pub struct States<K> {
    hasher: RandomState,
    places: Box<[Mutex<[Slot; WAYS]>]>,
    keys: PhantomData<fn(K)>,
}

/// A client's hash, keyed so that nobody can choose a place, and the time at which its whole rate is available again,
/// in nanoseconds since the start. It is 0 for an empty slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    client: u64,
    free_at: u64,
}

impl<K> Default for States<K> {
    fn default() -> Self {
        States {
            hasher: RandomState::new(),
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            keys: PhantomData,
        }
    }
}

impl<K> States<K> {
    /// The number of clients that are remembered, at most 16,384.
    pub fn clients(&self) -> usize {
        let used = |place: &Mutex<[Slot; WAYS]>| {
            let slots = place.lock().unwrap_or_else(PoisonError::into_inner);
            slots.iter().filter(|slot| slot.free_at > 0).count()
        };
        self.places.iter().map(used).sum()
    }
}

impl<K: Hash> StateStore for States<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let client = self.hasher.hash_one(key);
        let mut slots = self.places[client as usize % PLACES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let own = slots
            .iter()
            .position(|slot| slot.free_at > 0 && slot.client == client);
        let known = own.map(|own| Nanos::new(slots[own].free_at));
        let (decision, free_at) = decide(known)?;
        let least = || (0..WAYS).min_by_key(|index| slots[*index].free_at);
        if let Some(index) = own.or_else(least) {
            slots[index] = Slot {
                client,
                free_at: free_at.as_u64(),
            };
        }
        Ok(decision)
    }
}
