use super::error::SceneError;
use super::scene::{Object, REFERENCE_CANVAS, Scene, Shape};

/// Each edge pixel is the mean of this many samples, squared.
const SAMPLES: usize = 8;
/// Half the diagonal of a pixel: farther from the outline than this, a pixel is
/// wholly inside or wholly outside.
const HALF_DIAGONAL: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// A square RGB image, eight bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneImage {
    size: usize,
    rgb: Vec<u8>,
}

impl SceneImage {
    /// An image of `size` x `size` px from rows of interleaved RGB.
    ///
    /// # Errors
    /// [`SceneError::ImageLength`] unless there are `3 * size * size` values.
    pub fn new(size: usize, rgb: Vec<u8>) -> Result<Self, SceneError> {
        check_length(size, rgb.len())?;
        Ok(Self { size, rgb })
    }

    /// An image from planes of red, green and blue in [-1, 1], as the
    /// autoencoder makes them. Values outside are clamped; NaN becomes 0.
    ///
    /// # Shapes
    /// `[3, size, size]`, flattened.
    ///
    /// # Errors
    /// [`SceneError::ImageLength`] unless there are `3 * size * size` values.
    pub fn from_chw_f32(size: usize, planes: &[f32]) -> Result<Self, SceneError> {
        check_length(size, planes.len())?;
        let pixels = size * size;
        let byte = |value: f32| ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
        let rgb = (0..3 * pixels)
            .map(|i| byte(planes[i % 3 * pixels + i / 3]))
            .collect();
        Ok(Self { size, rgb })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Rows of interleaved RGB.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Rows of interleaved RGB, without a copy.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// Planes of red, green and blue in [-1, 1].
    ///
    /// # Shapes
    /// `[3, size, size]`, flattened.
    pub fn to_chw_f32(&self) -> Vec<f32> {
        let mut planes = Vec::with_capacity(self.rgb.len());
        self.append_chw_f32(&mut planes);
        planes
    }

    /// Appends the planes of [`to_chw_f32`](Self::to_chw_f32) to a batch.
    pub fn append_chw_f32(&self, batch: &mut Vec<f32>) {
        for channel in 0..3 {
            let pixels = self.rgb.chunks_exact(3);
            batch.extend(pixels.map(|pixel| f32::from(pixel[channel]) / 127.5 - 1.0));
        }
    }
}

fn check_length(size: usize, found: usize) -> Result<(), SceneError> {
    let expected = size.saturating_mul(size).saturating_mul(3);
    if found == expected {
        Ok(())
    } else {
        Err(SceneError::ImageLength {
            size,
            expected,
            found,
        })
    }
}

impl Scene {
    /// The scene on a canvas of `canvas` x `canvas` px, edges anti-aliased by
    /// 8 x 8 samples a pixel.
    pub fn render(&self, canvas: usize) -> SceneImage {
        let mut rgb = self.background.rgb().repeat(canvas * canvas);
        let scale = canvas as f32 / REFERENCE_CANVAS;
        for object in &self.objects {
            draw(&mut rgb, canvas, object, scale);
        }
        SceneImage { size: canvas, rgb }
    }
}

fn draw(rgb: &mut [u8], canvas: usize, object: &Object, scale: f32) {
    let [left, top, right, bottom] = object.bounds().map(|edge| edge * scale);
    let (center_x, center_y) = (object.center.0 * scale, object.center.1 * scale);
    let outline = Outline {
        shape: object.kind.shape,
        half: object.extent * scale / 2.0,
    };
    let pixels = |from: f32, to: f32| {
        let within = |edge: f32| (edge.max(0.0) as usize).min(canvas);
        within(from.floor())..within(to.ceil())
    };
    for y in pixels(top, bottom) {
        for x in pixels(left, right) {
            let coverage = outline.coverage(x as f32 - center_x, y as f32 - center_y);
            let pixel = &mut rgb[3 * (y * canvas + x)..][..3];
            for (below, above) in pixel.iter_mut().zip(object.rgb) {
                let under = f32::from(*below);
                *below = (under + coverage * (f32::from(above) - under)).round() as u8;
            }
        }
    }
}

/// A shape around the origin, half as far across as its extent.
struct Outline {
    shape: Shape,
    half: f32,
}

impl Outline {
    /// Distance from the point to the outline, positive inside. Outside, beyond a
    /// corner, it is that to the nearest side's line and so closer to zero.
    fn depth(&self, x: f32, y: f32) -> f32 {
        match self.shape {
            Shape::Circle => self.half - x.hypot(y),
            Shape::Square => self.half - x.abs().max(y.abs()),
            Shape::Triangle => {
                let half_height = self.half * 3f32.sqrt() / 2.0;
                let base = half_height - y;
                // The sides rise at 60 degrees from (half, half_height) to (0, -half_height).
                let side = (half_height + y - 3f32.sqrt() * x.abs()) / 2.0;
                base.min(side)
            }
        }
    }

    /// Share of the pixel with its top left corner at (x, y) that lies inside.
    fn coverage(&self, x: f32, y: f32) -> f32 {
        let depth = self.depth(x + 0.5, y + 0.5);
        if depth.abs() >= HALF_DIAGONAL {
            return if depth > 0.0 { 1.0 } else { 0.0 };
        }
        let offset = |i: usize| (i as f32 + 0.5) / SAMPLES as f32;
        let inside = (0..SAMPLES * SAMPLES)
            .filter(|i| self.depth(x + offset(i % SAMPLES), y + offset(i / SAMPLES)) >= 0.0)
            .count();
        inside as f32 / (SAMPLES * SAMPLES) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::{Background, Color, ObjectKind, Size};

    #[test]
    fn painted_area_is_the_area_of_the_shape() {
        for shape in Shape::ALL {
            let kind = ObjectKind {
                size: Size::Medium,
                color: Color::White,
                shape,
            };
            let object = Object {
                kind,
                rgb: [255; 3],
                extent: 61.3,
                center: (101.7, 140.2),
            };
            let scene = Scene {
                background: Background::Black,
                objects: vec![object],
            };
            for canvas in [128, 256, 320] {
                let image = scene.render(canvas);
                let painted: f32 = image
                    .rgb()
                    .iter()
                    .map(|&value| f32::from(value) / (3.0 * 255.0))
                    .sum();
                let scale = canvas as f32 / REFERENCE_CANVAS;
                let (width, height) = shape.bounding_box(61.3 * scale);
                let area = shape.fill_ratio() * width * height;
                assert!(
                    (painted / area - 1.0).abs() < 0.01,
                    "{shape}: {painted} of {area}"
                );
            }
        }
    }

    #[test]
    fn planes_and_bytes_say_the_same() {
        let rgb: Vec<u8> = (0..27).map(|i| i * 9).collect();
        let image = SceneImage::new(3, rgb).unwrap();
        let planes = image.to_chw_f32();
        assert_eq!(planes[0], -1.0);
        assert_eq!(
            planes[9 + 4],
            f32::from(image.rgb()[3 * 4 + 1]) / 127.5 - 1.0
        );
        assert!(planes.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert_eq!(SceneImage::from_chw_f32(3, &planes).unwrap(), image);

        let extreme = SceneImage::from_chw_f32(1, &[-7.0, f32::NAN, 7.0]).unwrap();
        assert_eq!(extreme.into_rgb(), [0, 0, 255]);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let error = SceneError::ImageLength {
            size: 2,
            expected: 12,
            found: 11,
        };
        assert_eq!(SceneImage::new(2, vec![0; 11]), Err(error.clone()));
        assert_eq!(SceneImage::from_chw_f32(2, &[0.0; 11]), Err(error));
    }
}
