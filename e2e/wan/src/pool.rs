//! A fixed number of packet buffers: what is under way can't take more memory than this.

/// Bytes that one site's buffers may take.
pub const MAX_POOL_BYTES: usize = 256 << 20;

/// Buffers of equal size, handed out by index; a freed one is the next to be used, so that a
/// quiet link touches little memory.
#[derive(Debug)]
pub struct Pool {
    storage: Vec<u8>,
    slot: usize,
    free: Vec<u32>,
}

impl Pool {
    /// `count` buffers of `slot` bytes; the caller has checked the product.
    pub fn new(count: usize, slot: usize) -> Self {
        assert!(count * slot <= MAX_POOL_BYTES, "configuration bounds the pool");
        Self { storage: vec![0; count * slot], slot, free: (0..count as u32).rev().collect() }
    }

    /// Takes a buffer, if one is left.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Gives a taken buffer back.
    pub fn put(&mut self, index: u32) {
        assert!(self.free.len() < self.free.capacity(), "buffer {index} given back twice");
        self.free.push(index);
    }

    /// A taken buffer's bytes.
    pub fn get(&self, index: u32) -> &[u8] {
        &self.storage[index as usize * self.slot..][..self.slot]
    }

    /// A taken buffer's bytes, to be written.
    pub fn get_mut(&mut self, index: u32) -> &mut [u8] {
        &mut self.storage[index as usize * self.slot..][..self.slot]
    }

    /// Copies the first `len` bytes of a taken buffer to another.
    pub fn copy(&mut self, from: u32, to: u32, len: usize) {
        let start = from as usize * self.slot;
        self.storage.copy_within(start..start + len, to as usize * self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn hands_out_no_more_than_it_has() {
        let mut pool = Pool::new(2, 4);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        pool.get_mut(a).copy_from_slice(b"abcd");
        pool.copy(a, b, 3);
        assert_eq!(pool.get(b), b"abc\0");
        pool.put(a);
        assert_eq!(pool.take(), Some(a));
    }
}
