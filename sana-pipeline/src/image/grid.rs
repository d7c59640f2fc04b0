//! Several images on one sheet.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ::image::imageops::{self, FilterType};
use ::image::{Rgb, RgbImage};

use crate::error::{ImageError, PipelineError};
use crate::image;

/// The most pixels of a sheet: 64 images of 1024 x 1024. Beyond it images are shrunk.
pub const LARGEST_SHEET: u64 = 1 << 26;

/// How images are laid out on a sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridOptions {
    /// Images in a row. By default as many as there are rows, or one more: `ceil(sqrt(images))`.
    pub columns: Option<NonZeroUsize>,
    /// Pixels between two images, 4 by default. There is no margin around them.
    pub gap: u32,
    /// Colour of gaps and of cells that are not filled, white by default.
    pub background: [u8; 3],
}

impl Default for GridOptions {
    fn default() -> Self {
        Self {
            columns: None,
            gap: 4,
            background: [255; 3],
        }
    }
}

/// The images on one sheet, row by row. Every cell is as wide as the widest image and as high
/// as the highest one; a smaller image is in the middle of its cell. Where the sheet would
/// have more than 8192 x 8192 pixels, all images are shrunk by one factor so that it fits.
///
/// # Errors
/// [`ImageError::EmptyGrid`] without images, [`ImageError::GridSize`] when even cells of
/// one pixel and their gaps are too much for a sheet.
pub fn grid(images: &[RgbImage], options: &GridOptions) -> Result<RgbImage, ImageError> {
    let mut sheet = Sheet::new(images.iter().map(RgbImage::dimensions), options)?;
    for (position, image) in images.iter().enumerate() {
        sheet.place(position, image);
    }
    Ok(sheet.image)
}

/// The images of files on one sheet, as [`grid`]; one of them is in memory at a time.
///
/// # Errors
/// As [`grid`], and as [`image::load`] for a file that cannot be read.
pub fn grid_of_files(paths: &[PathBuf], options: &GridOptions) -> Result<RgbImage, PipelineError> {
    let sizes: Vec<_> = paths
        .iter()
        .map(|path| image::dimensions(path).map(<(u32, u32)>::from))
        .collect::<Result<_, _>>()?;
    let mut sheet = Sheet::new(sizes.into_iter(), options)?;
    for (position, path) in paths.iter().enumerate() {
        sheet.place(position, &image::load(path)?);
    }
    Ok(sheet.image)
}

struct Sheet {
    image: RgbImage,
    columns: usize,
    gap: u32,
    /// Width and height.
    cell: [u32; 2],
    /// Factor of all images, at most 1.
    scale: f64,
}

impl Sheet {
    fn new(
        sizes: impl ExactSizeIterator<Item = (u32, u32)>,
        options: &GridOptions,
    ) -> Result<Self, ImageError> {
        let images = sizes.len();
        if images == 0 {
            return Err(ImageError::EmptyGrid);
        }
        let square = images.isqrt() + usize::from(images.isqrt().pow(2) < images);
        let columns = options.columns.map_or(square, NonZeroUsize::get);
        let columns = columns.min(images);
        let counts = [columns, images.div_ceil(columns)];
        let largest = sizes.fold([1, 1], |[width, height], size| {
            [size.0.max(width), size.1.max(height)]
        });
        let scale = scale(counts, largest, options.gap);
        let cell = largest.map(|side| scaled(side, scale));
        let too_many = || ImageError::GridSize {
            images,
            columns,
            largest: LARGEST_SHEET,
        };
        let sides = [0, 1].map(|axis| side(counts[axis], cell[axis], options.gap));
        let [Some(width), Some(height)] = sides else {
            return Err(too_many());
        };
        if u64::from(width) * u64::from(height) > LARGEST_SHEET {
            return Err(too_many());
        }
        Ok(Self {
            image: RgbImage::from_pixel(width, height, Rgb(options.background)),
            columns,
            gap: options.gap,
            cell,
            scale,
        })
    }

    fn place(&mut self, position: usize, image: &RgbImage) {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return;
        }
        let [width, height] = [width, height].map(|side| scaled(side, self.scale));
        let places = [position % self.columns, position / self.columns];
        let corner = |axis: usize, side: u32| {
            let apart = i64::from(self.cell[axis]) + i64::from(self.gap);
            places[axis] as i64 * apart + i64::from(self.cell[axis].saturating_sub(side) / 2)
        };
        let (x, y) = (corner(0, width), corner(1, height));
        if image.dimensions() == (width, height) {
            imageops::replace(&mut self.image, image, x, y);
        } else {
            let shrunk = imageops::resize(image, width, height, FilterType::Lanczos3);
            imageops::replace(&mut self.image, &shrunk, x, y);
        }
    }
}

/// `count` cells and the gaps between them, unless that is beyond any image.
fn side(count: usize, cell: u32, gap: u32) -> Option<u32> {
    let count = u32::try_from(count).ok()?;
    let cells = count.checked_mul(cell)?;
    cells.checked_add(gap.checked_mul(count - 1)?)
}

fn scaled(side: u32, scale: f64) -> u32 {
    ((f64::from(side) * scale) as u32).max(1)
}

/// The largest factor up to 1 at which the sheet has at most [`LARGEST_SHEET`] pixels: with `a` and
/// `b` the sums of the cells' sides and `c` and `d` those of the gaps, the root of
/// `(a s + c) (b s + d) = LARGEST_SHEET`, or 0 where gaps alone are more than that.
fn scale(counts: [usize; 2], largest: [u32; 2], gap: u32) -> f64 {
    let [a, b] = [0, 1].map(|axis| counts[axis] as f64 * f64::from(largest[axis]));
    let [c, d] = counts.map(|count| (count - 1) as f64 * f64::from(gap));
    let room = LARGEST_SHEET as f64 - c * d;
    if (a + c) * (b + d) <= LARGEST_SHEET as f64 {
        return 1.0;
    }
    if room <= 0.0 {
        return 0.0;
    }
    let half = (a * d + b * c) / 2.0;
    ((half * half + a * b * room).sqrt() - half) / (a * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(width: u32, height: u32, value: u8) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb([value; 3]))
    }

    fn columns(columns: usize) -> GridOptions {
        GridOptions {
            columns: NonZeroUsize::new(columns),
            ..GridOptions::default()
        }
    }

    #[test]
    fn rows_of_images_with_gaps() {
        let images: Vec<RgbImage> = (0..5).map(|value| plain(3, 2, value)).collect();
        let sheet = grid(&images, &GridOptions::default()).unwrap();
        assert_eq!(sheet.dimensions(), (3 * 3 + 2 * 4, 2 * 2 + 4));
        for (x, y, pixel) in sheet.enumerate_pixels() {
            let (column, row) = (x / 7, y / 6);
            let inside = x % 7 < 3 && y % 6 < 2;
            let position = row * 3 + column;
            let expected = match inside && position < 5 {
                true => position as u8,
                false => 255,
            };
            assert_eq!(pixel.0, [expected; 3], "at {x}, {y}");
        }
    }

    #[test]
    fn columns_are_near_square_or_as_asked() {
        let sheet = |count: usize, options: &GridOptions| {
            let images = vec![plain(10, 10, 0); count];
            let (width, height) = grid(&images, options).unwrap().dimensions();
            [(width + 4) / 14, (height + 4) / 14]
        };
        let near_square = [1, 2, 2, 2, 3, 3, 3, 3, 3, 4];
        for (count, expected) in (1..).zip(near_square) {
            assert_eq!(
                sheet(count, &GridOptions::default())[0],
                expected,
                "{count}"
            );
        }
        assert_eq!(sheet(6, &columns(1)), [1, 6]);
        assert_eq!(sheet(6, &columns(4)), [4, 2]);
        assert_eq!(sheet(6, &columns(100)), [6, 1]);
    }

    #[test]
    fn images_of_several_sizes_stand_in_the_middle() {
        let images = [plain(4, 1, 10), plain(2, 5, 20), plain(0, 0, 30)];
        let sheet = grid(
            &images,
            &GridOptions {
                gap: 1,
                background: [9, 8, 7],
                ..columns(3)
            },
        )
        .unwrap();
        assert_eq!(sheet.dimensions(), (14, 5));
        for (x, y, pixel) in sheet.enumerate_pixels() {
            let expected = match (x, y) {
                (0..4, 2) => [10; 3],
                (6 | 7, _) => [20; 3],
                _ => [9, 8, 7],
            };
            assert_eq!(pixel.0, expected, "at {x}, {y}");
        }
    }

    /// Seen in the layout alone: no image of that size is made.
    #[test]
    fn sheets_that_are_too_large_are_shrunk() {
        let gap = GridOptions::default().gap;
        let pixels = |counts: [usize; 2], largest: [u32; 2]| {
            let scale = scale(counts, largest, gap);
            let sides = [0, 1]
                .map(|axis| side(counts[axis], scaled(largest[axis], scale), gap).unwrap() as u64);
            (scale, sides[0] * sides[1])
        };
        assert_eq!(scale([7, 9], [1024, 1024], gap), 1.0);
        for (counts, largest) in [
            ([10, 10], [1024, 1024]),
            ([32, 31], [4096, 2048]),
            ([1, 500], [512, 1024]),
        ] {
            let (scale, pixels) = pixels(counts, largest);
            assert!(scale < 1.0, "{scale}");
            assert!(pixels <= LARGEST_SHEET, "{pixels}");
            // A cell is rounded down, by less than one pixel.
            assert!(pixels > LARGEST_SHEET / 10 * 9, "{pixels}");
        }
    }

    #[test]
    fn a_shrunk_image_is_the_image() {
        let halves = RgbImage::from_fn(8, 4, |x, _| Rgb([if x < 4 { 0 } else { 200 }; 3]));
        let mut sheet = Sheet {
            image: plain(4, 2, 9),
            columns: 1,
            gap: 0,
            cell: [4, 2],
            scale: 0.5,
        };
        sheet.place(0, &halves);
        for (x, y, pixel) in sheet.image.enumerate_pixels() {
            let expected: i32 = if x < 2 { 0 } else { 200 };
            // The filter overshoots next to an edge.
            let error = (i32::from(pixel.0[0]) - expected).abs();
            assert!(error <= 20, "{error} at {x}, {y}");
        }
    }

    #[test]
    fn what_makes_no_sheet() {
        let error = grid(&[], &GridOptions::default()).unwrap_err();
        assert!(matches!(error, ImageError::EmptyGrid), "{error}");
        let wide = GridOptions {
            gap: u32::MAX,
            ..GridOptions::default()
        };
        let error = grid(&[plain(1, 1, 0), plain(1, 1, 0)], &wide).unwrap_err();
        assert!(
            error.to_string().contains("2 images in 2 columns"),
            "{error}"
        );
        let wide = GridOptions {
            gap: 1 << 14,
            ..GridOptions::default()
        };
        let error = grid(&vec![plain(1, 1, 0); 9], &wide).unwrap_err();
        assert!(matches!(error, ImageError::GridSize { .. }), "{error}");
    }

    #[test]
    fn files_on_a_sheet() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let images = [plain(3, 2, 1), plain(2, 3, 2)];
        let paths = ["a.png", "b.png"].map(|name| folder.path().join(name));
        for (path, image) in paths.iter().zip(&images) {
            image::save_png(path, image, &[]).unwrap();
        }
        let options = GridOptions::default();
        assert_eq!(
            grid_of_files(&paths, &options).unwrap(),
            grid(&images, &options).unwrap()
        );
        std::fs::write(&paths[1], "no image").unwrap();
        let error = grid_of_files(&paths, &options).unwrap_err();
        assert!(
            matches!(error, PipelineError::Image(ImageError::Unreadable { .. })),
            "{error}"
        );
        std::fs::remove_file(&paths[1]).unwrap();
        let error = grid_of_files(&paths, &options).unwrap_err();
        assert!(matches!(error, PipelineError::Read { .. }), "{error}");
    }
}
