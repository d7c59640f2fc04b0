use crate::train::error::TrainError;

/// Pools of threads that work next to each other. Tensor operations inside one use its threads
/// alone, so that they do not wait for each other: with as many pools as cores, each runs on one.
#[derive(Debug)]
pub(in crate::train) struct Workers(Vec<rayon::ThreadPool>);

impl Workers {
    /// This many pools, which share the cores among them.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn new(count: usize) -> Result<Self, TrainError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pools = (0..count).map(|_| {
            rayon::ThreadPoolBuilder::new()
                .num_threads((cores / count).max(1))
                .build()
        });
        let pools = pools.collect::<Result<_, _>>();
        Ok(Self(pools.map_err(TrainError::Threads)?))
    }

    /// Number of pools.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Deals the items out to the pools. The results are in the order of pools: those of pool `i`
    /// are for items `i`, `i + count`, `i + 2 count` and so on.
    ///
    /// A single pool's work stays on the calling thread, where GPU backends want all use of a
    /// tensor.
    pub fn share<I: Send, T: Send>(&self, items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
        if self.count() == 1 {
            return items.into_iter().map(work).collect();
        }
        let mut shares: Vec<Vec<I>> = self.0.iter().map(|_| Vec::new()).collect();
        for (index, item) in items.into_iter().enumerate() {
            shares[index % self.count()].push(item);
        }
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .0
                .iter()
                .zip(shares)
                .map(|(pool, share)| {
                    let all = move || share.into_iter().map(work).collect::<Vec<_>>();
                    scope.spawn(move || pool.install(all))
                })
                .collect();
            let joined = running.into_iter().flat_map(|pool| match pool.join() {
                Ok(results) => results,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }
}
