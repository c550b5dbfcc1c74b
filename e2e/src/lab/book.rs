//! The right to change a lab, with its record: every change is on disk before the next step.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lock::Lock;
use crate::parts::Parts;
use crate::state::{State, Store};
use crate::{Error, Result};

/// A lab's record under the lock that lets one command change it.
#[derive(Debug)]
pub struct Book {
    store: Store,
    state: Mutex<State>,
    _lock: Lock,
}

impl Book {
    /// Locks the lab and opens its record.
    ///
    /// # Errors
    /// When another command holds the lock, or there is no such lab.
    pub fn open(store: &Store) -> Result<Self> {
        let lock = store.lock()?;
        let missing = || Error::Invalid(format!("lab {} is not up", store.name()));
        let state = store.load()?.ok_or_else(missing)?;
        Ok(Self { store: store.clone(), state: Mutex::new(state), _lock: lock })
    }

    /// Starts the record of a new lab.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn begin(store: &Store, lock: Lock, state: State) -> Result<Self> {
        store.save(&state)?;
        Ok(Self { store: store.clone(), state: Mutex::new(state), _lock: lock })
    }

    /// Changes the record, on disk as well.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn change(&self, change: impl FnOnce(&mut State)) -> Result<()> {
        let mut state = self.state();
        change(&mut state);
        self.store.save(&state)
    }

    /// Looks at the record.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    /// The lab's files.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The programs that run in the lab.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.read(|state| Parts::at(&state.parts))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A record is replaced as a whole, so that of a thread that panicked is whole too.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
