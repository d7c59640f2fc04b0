//! Orders that need no memory.

/// Where `index` goes in a permutation of `0..count` chosen by `key`: a Feistel network on enough
/// bits, applied until the result is in range. It needs no memory, whatever the count.
pub(super) fn permuted(index: u64, count: u64, key: u64) -> u64 {
    const ROUNDS: u64 = 4;
    let bits = (u64::BITS - count.saturating_sub(1).leading_zeros()).max(2);
    let half = bits.div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut value = index;
    loop {
        let [mut left, mut right] = [value >> half, value & mask];
        for round in 0..ROUNDS {
            let mixed = mix(key ^ mix(right ^ (round << 56)));
            [left, right] = [right, left ^ (mixed & mask)];
        }
        value = (left << half) | right;
        if value < count {
            return value;
        }
    }
}

/// SplitMix64's finalizer.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for count in [1, 2, 3, 5, 8, 9, 100, 1000] {
            for key in [0, 7, u64::MAX] {
                let mut places: Vec<u64> = (0..count).map(|i| permuted(i, count, key)).collect();
                assert!(count < 8 || !places.is_sorted(), "{places:?}");
                places.sort_unstable();
                assert!(places.into_iter().eq(0..count), "{count} {key}");
            }
        }
    }
}
