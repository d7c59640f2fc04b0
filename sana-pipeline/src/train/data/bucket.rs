//! Image sizes, and which of them a step has.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use sana_sampler::noise::{self, Stream};

use super::order::mix;

/// The images of one size that a [`DataSource`](super::DataSource) has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// Number of different images; `None` where there is no end.
    pub count: Option<usize>,
}

impl Bucket {
    /// One without an end.
    pub fn endless(size: [usize; 2]) -> Self {
        Self { size, count: None }
    }

    /// Pixels of an image, which may be more than any memory has.
    pub(in crate::train) fn area(&self) -> f64 {
        self.size[0] as f64 * self.size[1] as f64
    }

    /// Whether its images are as wide as high.
    pub fn is_square(&self) -> bool {
        self.size[0] == self.size[1]
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.size[0], self.size[1])
    }
}

/// What is random in sample `index` of a bucket of a program: buckets have numbers of their own.
pub(super) fn generator(seed: u64, bucket: usize, index: u64) -> ChaCha8Rng {
    let stream = match bucket {
        0 => Stream::Initial,
        other => Stream::Other(other as u32),
    };
    noise::generator(seed, index, stream)
}

/// How often each bucket is drawn, relative to the others: as many times as it has images, or equally
/// often where one has no end.
pub(in crate::train) fn weights(buckets: &[Bucket]) -> Vec<usize> {
    let counts: Option<Vec<usize>> = buckets.iter().map(|bucket| bucket.count).collect();
    counts.unwrap_or_else(|| vec![1; buckets.len()])
}

/// Of `count` images those of each bucket, by weight and at most as many as it has: they are `count`
/// in all, unless there are fewer.
pub(in crate::train) fn shares(buckets: &[Bucket], count: usize) -> Vec<usize> {
    let weights = weights(buckets);
    let total: u128 = weights.iter().map(|weight| *weight as u128).sum();
    let exact = |weight: usize| count as u128 * weight as u128;
    let mut shares: Vec<usize> = weights
        .iter()
        .map(|weight| (exact(*weight) / total.max(1)) as usize)
        .collect();
    // The largest remainders get what is left, the first of equal ones before the others.
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&bucket| std::cmp::Reverse(exact(weights[bucket]) % total.max(1)));
    let left = count.saturating_sub(shares.iter().sum());
    for bucket in order.into_iter().take(left) {
        shares[bucket] += 1;
    }
    for (share, bucket) in shares.iter_mut().zip(buckets) {
        *share = bucket.count.map_or(*share, |count| count.min(*share));
    }
    shares
}

/// The bucket of a step, drawn by weight from seed and step. It is 0 where there is one bucket.
pub(in crate::train) fn bucket_of(seed: u64, step: usize, weights: &[usize]) -> usize {
    let total: u128 = weights.iter().map(|weight| *weight as u128).sum();
    let mut left = u128::from(mix(seed ^ mix(step as u64))) % total.max(1);
    for (bucket, weight) in weights.iter().enumerate() {
        let weight = *weight as u128;
        if left < weight {
            return bucket;
        }
        left -= weight;
    }
    0
}

/// Which bucket a step has, and how many steps before it had the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::train) struct Place {
    pub bucket: usize,
    pub earlier: usize,
}

impl Place {
    /// Of step `step`. Counting the steps before it takes a few nanoseconds for each.
    pub fn of(seed: u64, step: usize, weights: &[usize]) -> Self {
        if weights.len() < 2 {
            return Self {
                bucket: 0,
                earlier: step,
            };
        }
        let bucket = bucket_of(seed, step, weights);
        let steps = (0..step).filter(|step| bucket_of(seed, *step, weights) == bucket);
        Self {
            bucket,
            earlier: steps.count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finite(counts: &[usize]) -> Vec<Bucket> {
        let buckets = counts.iter().map(|&count| Bucket {
            size: [8, 8],
            count: Some(count),
        });
        buckets.collect()
    }

    #[test]
    fn shares_follow_the_weights() {
        let endless = [Bucket::endless([8, 8]), Bucket::endless([8, 16])];
        assert_eq!(shares(&endless[..1], 5), [5]);
        assert_eq!(shares(&endless, 5), [3, 2]);
        assert_eq!(shares(&endless, 1), [1, 0]);
        assert_eq!(shares(&finite(&[8]), 20_000), [8]);
        assert_eq!(shares(&finite(&[6, 3, 1]), 20_000), [6, 3, 1]);
        assert_eq!(shares(&finite(&[6, 3, 1]), 5), [3, 2, 0]);
        assert_eq!(shares(&finite(&[7, 2]), usize::MAX), [7, 2]);
        // An end for one of them makes them equal.
        let mixed = [finite(&[2])[0], Bucket::endless([8, 16])];
        assert_eq!(shares(&mixed, 10), [2, 5]);
    }

    #[test]
    fn steps_draw_buckets_by_weight_and_go_through_each_in_order() {
        let weights = [6, 0, 3, 1];
        let mut taken = [0; 4];
        for step in 0..2000 {
            let place = Place::of(5, step, &weights);
            assert_eq!(place.earlier, taken[place.bucket]);
            taken[place.bucket] += 1;
        }
        for (taken, weight) in taken.into_iter().zip(weights) {
            let expected = 200.0 * weight as f64;
            let deviation = (taken as f64 - expected).abs();
            assert!(
                deviation <= 0.1 * expected + 20.0 * f64::from(weight > 0),
                "{taken:?}"
            );
        }
        let bucket = |seed| {
            (0..64)
                .map(|step| bucket_of(seed, step, &weights))
                .collect::<Vec<_>>()
        };
        assert_ne!(bucket(5), bucket(6));
        let place = Place {
            bucket: 0,
            earlier: 7,
        };
        assert_eq!(Place::of(5, 7, &[3]), place);
    }
}
