//! The sizes that models are trained at: aspect-ratio buckets, `[height, width]` in pixels.
//!
//! Published models were trained on images sorted by aspect ratio into buckets of about the same
//! area. The tables for models of 512, 1024, 2048 and 4096 pixels are those
//! of the diffusers library (the first two have 33 entries there, the authors' own 40). Models of
//! other sizes get a computed one: see [`Buckets::computed`].

use std::borrow::Cow;

/// Buckets of models trained at 512 pixels.
#[rustfmt::skip]
pub const BUCKETS_512: [[usize; 2]; 33] = [
    [256, 1024], [256, 928], [288, 896], [288, 864], [288, 832], [320, 800], [320, 768],
    [352, 736], [352, 704], [352, 672], [384, 672], [384, 640], [416, 608], [416, 576],
    [448, 576], [448, 544], [480, 544], [480, 512], [512, 512], [512, 480], [544, 480],
    [544, 448], [576, 448], [576, 416], [608, 416], [640, 384], [672, 384], [704, 352],
    [736, 352], [768, 320], [800, 320], [864, 288], [1024, 256],
];

/// Buckets of models trained at 1024 pixels.
#[rustfmt::skip]
pub const BUCKETS_1024: [[usize; 2]; 33] = [
    [512, 2048], [512, 1856], [576, 1792], [576, 1728], [576, 1664], [640, 1600],
    [640, 1536], [704, 1472], [704, 1408], [704, 1344], [768, 1344], [768, 1280],
    [832, 1216], [832, 1152], [896, 1152], [896, 1088], [960, 1088], [960, 1024],
    [1024, 1024], [1024, 960], [1088, 960], [1088, 896], [1152, 896], [1152, 832],
    [1216, 832], [1280, 768], [1344, 768], [1408, 704], [1472, 704], [1536, 640],
    [1600, 640], [1728, 576], [2048, 512],
];

/// Buckets of models trained at 2048 pixels.
#[rustfmt::skip]
pub const BUCKETS_2048: [[usize; 2]; 40] = [
    [1024, 4096], [1024, 3968], [1024, 3840], [1024, 3712], [1152, 3584], [1152, 3456],
    [1152, 3328], [1280, 3200], [1280, 3072], [1408, 2944], [1408, 2816], [1408, 2688],
    [1536, 2688], [1536, 2560], [1664, 2432], [1664, 2304], [1792, 2304], [1792, 2176],
    [1920, 2176], [1920, 2048], [2048, 2048], [2048, 1920], [2176, 1920], [2176, 1792],
    [2304, 1792], [2304, 1664], [2432, 1664], [2560, 1536], [2688, 1536], [2816, 1408],
    [2944, 1408], [3072, 1280], [3200, 1280], [3328, 1152], [3456, 1152], [3584, 1152],
    [3712, 1024], [3840, 1024], [3968, 1024], [4096, 1024],
];

/// Buckets of models trained at 4096 pixels.
#[rustfmt::skip]
pub const BUCKETS_4096: [[usize; 2]; 40] = [
    [2048, 8192], [2048, 7936], [2048, 7680], [2048, 7424], [2304, 7168], [2304, 6912],
    [2304, 6656], [2560, 6400], [2560, 6144], [2816, 5888], [2816, 5632], [2816, 5376],
    [3072, 5376], [3072, 5120], [3328, 4864], [3328, 4608], [3584, 4608], [3584, 4352],
    [3840, 4352], [3840, 4096], [4096, 4096], [4096, 3840], [4352, 3840], [4352, 3584],
    [4608, 3584], [4608, 3328], [4864, 3328], [5120, 3072], [5376, 3072], [5632, 2816],
    [5888, 2816], [6144, 2560], [6400, 2560], [6656, 2304], [6912, 2304], [7168, 2304],
    [7424, 2048], [7680, 2048], [7936, 2048], [8192, 2048],
];

/// The sizes of one model, from the widest to the tallest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Cow<'static, [[usize; 2]]>);

impl Buckets {
    /// The buckets of a model trained at `native` x `native` pixels whose sizes must be multiples of
    /// `multiple`: a published table where there is one that fits, else a computed one.
    pub fn of_model(native: usize, multiple: usize) -> Self {
        let published: &'static [[usize; 2]] = match native {
            512 => &BUCKETS_512,
            1024 => &BUCKETS_1024,
            2048 => &BUCKETS_2048,
            4096 => &BUCKETS_4096,
            _ => return Self::computed(native, multiple),
        };
        let fits = |side: &usize| side.is_multiple_of(multiple);
        match published.iter().flatten().all(fits) {
            true => Self(Cow::Borrowed(published)),
            false => Self::computed(native, multiple),
        }
    }

    /// Buckets that keep the area: for every multiple of `multiple` from half of `native` to all of
    /// it as the shorter side, the longer side is the multiple nearest to `native^2 / shorter`, in
    /// both orientations. Aspect ratios so reach from 1:4 to 4:1, as in the published tables.
    ///
    /// # Panics
    /// If `multiple` is 0.
    pub fn computed(native: usize, multiple: usize) -> Self {
        let first = native.div_ceil(2 * multiple).max(1);
        let last = (native / multiple).max(first);
        let wide = (first..=last).map(|side| {
            let shorter = side * multiple;
            let longer = native as f64 / shorter as f64 * native as f64 / multiple as f64;
            [shorter, (longer.round() as usize).max(side) * multiple]
        });
        let mut buckets: Vec<[usize; 2]> = wide.collect();
        let tall = buckets.iter().rev().map(|&[height, width]| [width, height]);
        let tall: Vec<_> = tall.filter(|[height, width]| height != width).collect();
        buckets.extend(tall);
        Self(Cow::Owned(buckets))
    }

    /// The sizes, `[height, width]`, by height over width.
    pub fn sizes(&self) -> &[[usize; 2]] {
        &self.0
    }

    /// The bucket whose ratio is nearest to a ratio of height to width; of two that are as near the
    /// wider one. Ratios of buckets are compared as the reference writes them down, with two
    /// decimals.
    ///
    /// # Shapes
    /// - result `[height, width]`
    pub fn nearest(&self, height_to_width: f64) -> [usize; 2] {
        // Far beyond any table, and near enough for differences to be distinguished.
        let wanted = height_to_width.min(1e6);
        let distance = |size: &[usize; 2]| (ratio(*size) - wanted).abs();
        let nearer = |a: &&[usize; 2], b: &&[usize; 2]| distance(a).total_cmp(&distance(b));
        // There is at least one: a table is published, or computed and holds the shortest side.
        self.0.iter().min_by(nearer).copied().unwrap_or_default()
    }
}

/// Height over width to two decimals, a tie to the even one: the reference's keys.
fn ratio([height, width]: [usize; 2]) -> f64 {
    (height as f64 / width as f64 * 100.0).round_ties_even() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: [(usize, &[[usize; 2]]); 4] = [
        (512, &BUCKETS_512),
        (1024, &BUCKETS_1024),
        (2048, &BUCKETS_2048),
        (4096, &BUCKETS_4096),
    ];

    #[test]
    fn tables_are_of_one_area_and_of_multiples_of_32() {
        for (native, table) in TABLES {
            let buckets = Buckets::of_model(native, 32);
            assert_eq!(buckets.sizes(), table);
            assert!(table.contains(&[native, native]));
            assert_eq!(table[0], [native / 2, 2 * native]);
            assert_eq!(table.last(), Some(&[2 * native, native / 2]));
            for &[height, width] in table {
                assert!(height % 32 == 0 && width % 32 == 0, "{height}x{width}");
                let area = (height * width) as f64 / (native * native) as f64;
                assert!((0.9..=1.0).contains(&area), "{height}x{width}: {area}");
            }
        }
        let doubled = |table: &[[usize; 2]]| -> Vec<[usize; 2]> {
            table.iter().map(|size| size.map(|side| 2 * side)).collect()
        };
        assert_eq!(doubled(&BUCKETS_512), BUCKETS_1024);
        assert_eq!(doubled(&BUCKETS_2048), BUCKETS_4096);
    }

    /// The keys of the reference's tables, which its rule compares.
    #[test]
    fn ratios_are_the_reference_s_keys() {
        let small = [
            0.25, 0.28, 0.32, 0.33, 0.35, 0.4, 0.42, 0.48, 0.5, 0.52, 0.57, 0.6, 0.68, 0.72, 0.78,
            0.82, 0.88, 0.94, 1.0, 1.07, 1.13, 1.21, 1.29, 1.38, 1.46, 1.67, 1.75, 2.0, 2.09, 2.4,
            2.5, 3.0, 4.0,
        ];
        let large = [
            0.25, 0.26, 0.27, 0.28, 0.32, 0.33, 0.35, 0.4, 0.42, 0.48, 0.5, 0.52, 0.57, 0.6, 0.68,
            0.72, 0.78, 0.82, 0.88, 0.94, 1.0, 1.07, 1.13, 1.21, 1.29, 1.38, 1.46, 1.67, 1.75, 2.0,
            2.09, 2.4, 2.5, 2.89, 3.0, 3.11, 3.62, 3.75, 3.88, 4.0,
        ];
        let ratios = |table: &[[usize; 2]]| table.iter().copied().map(ratio).collect::<Vec<_>>();
        assert_eq!(ratios(&BUCKETS_512), small);
        assert_eq!(ratios(&BUCKETS_1024), small);
        assert_eq!(ratios(&BUCKETS_2048), large);
        assert_eq!(ratios(&BUCKETS_4096), large);
    }

    /// `classify_height_width_bin` of diffusers 0.42.1, for the tables of 1024 and 2048 pixels.
    #[test]
    fn nearest_is_the_reference_s() {
        let answers = [
            ([512, 512], [1024, 1024], [2048, 2048]),
            ([1024, 1024], [1024, 1024], [2048, 2048]),
            ([768, 1024], [832, 1152], [1664, 2304]),
            ([1024, 768], [1152, 896], [2304, 1792]),
            ([720, 1280], [768, 1344], [1536, 2688]),
            ([1280, 720], [1344, 768], [2688, 1536]),
            ([1080, 1920], [768, 1344], [1536, 2688]),
            ([1920, 1080], [1344, 768], [2688, 1536]),
            ([480, 832], [768, 1344], [1536, 2688]),
            ([832, 480], [1344, 768], [2688, 1536]),
            ([500, 375], [1152, 896], [2304, 1792]),
            ([1000, 100], [2048, 512], [4096, 1024]),
            ([100, 1000], [512, 2048], [1024, 4096]),
            ([2160, 3840], [768, 1344], [1536, 2688]),
            ([3840, 2160], [1344, 768], [2688, 1536]),
            ([1, 1], [1024, 1024], [2048, 2048]),
            ([907, 1003], [960, 1088], [1920, 2176]),
            ([1440, 1080], [1152, 896], [2304, 1792]),
            ([875, 1000], [960, 1088], [1920, 2176]),
            ([1000, 2041], [704, 1472], [1408, 2944]),
            ([313, 1000], [576, 1792], [1152, 3584]),
            ([3450, 1000], [1728, 576], [3712, 1024]),
            ([1250, 1000], [1088, 896], [2176, 1792]),
        ];
        for ([height, width], small, large) in answers {
            let wanted = height as f64 / width as f64;
            let nearest = |native| Buckets::of_model(native, 32).nearest(wanted);
            assert_eq!(nearest(1024), small, "{height}x{width}");
            assert_eq!(nearest(512), small.map(|side| side / 2));
            assert_eq!(nearest(2048), large, "{height}x{width}");
            assert_eq!(nearest(4096), large.map(|side| 2 * side));
        }
    }

    #[test]
    fn computed_tables_keep_the_area() {
        let tiny = Buckets::computed(128, 32);
        let expected = [[64, 256], [96, 160], [128, 128], [160, 96], [256, 64]];
        assert_eq!(tiny.sizes(), expected);
        assert_eq!(Buckets::of_model(128, 32), tiny);
        assert_eq!(tiny.nearest(9.0 / 16.0), [96, 160]);
        assert_eq!(tiny.nearest(16.0 / 9.0), [160, 96]);
        assert_eq!(tiny.nearest(f64::INFINITY), [256, 64]);
        assert_eq!(tiny.nearest(0.0), [64, 256]);
        // A published table with sizes that the model cannot make is of no use to it.
        let coarse = Buckets::of_model(1024, 128);
        assert!(coarse.sizes().iter().flatten().all(|side| side % 128 == 0));
        for (native, multiple) in [
            (32, 32),
            (64, 32),
            (96, 64),
            (1536, 32),
            (7, 32),
            (1 << 30, 1 << 21),
        ] {
            let buckets = Buckets::computed(native, multiple);
            assert!(!buckets.sizes().is_empty(), "{native}");
            let ratios: Vec<f64> = buckets.sizes().iter().copied().map(ratio).collect();
            assert!(ratios.is_sorted(), "{native}: {ratios:?}");
            for &[height, width] in buckets.sizes() {
                assert!(buckets.sizes().contains(&[width, height]));
                assert!(height % multiple == 0 && width % multiple == 0 && height * width > 0);
            }
        }
    }
}
