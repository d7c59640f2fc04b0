use std::f32::consts::TAU;

use rand::{Rng, RngExt};

/// Red, green and blue in [0, 1], in the curve of sRGB.
pub(super) type Rgb = [f32; 3];

/// A channel of a colour varies by this much.
const COLOR_JITTER: f32 = 0.02;
/// Half the width of a soft edge, in units.
pub(super) const SOFT: f32 = 2.0 / 256.0;

/// A place in the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    /// From the left edge, in units of the square root of the area.
    pub x: f32,
    /// From the upper edge, in the same units.
    pub y: f32,
    /// From the upper edge, as a share of the height.
    pub down: f32,
}

/// An image in the making. All that is random is drawn from one generator, in the order of the calls.
pub(super) struct Painter<'r, R: Rng + ?Sized> {
    rng: &'r mut R,
    width: usize,
    height: usize,
    /// Pixels of a unit.
    unit: f32,
    /// How far down the ground begins, as a share of the height.
    pub ground: f32,
    pub pixels: Vec<Rgb>,
}

/// How far down the ground begins, as a share of the height.
pub(super) fn draw_ground<R: Rng + ?Sized>(rng: &mut R) -> f32 {
    rng.random_range(0.52..0.62)
}

/// 0 below `from`, 1 above `to`, smooth between them.
pub(super) fn step(from: f32, to: f32, value: f32) -> f32 {
    let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

pub(super) fn rgb(hex: u32) -> Rgb {
    [16, 8, 0].map(|shift| ((hex >> shift) & 0xff) as f32 / 255.0)
}

/// A wavy line: its height at a place along it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wave {
    base: f32,
    amplitude: f32,
    frequency: f32,
    phase: f32,
}

impl Wave {
    pub fn at(&self, x: f32) -> f32 {
        self.base + self.amplitude * (TAU * (self.frequency * x + self.phase)).sin()
    }
}

impl<'r, R: Rng + ?Sized> Painter<'r, R> {
    pub fn new(rng: &'r mut R, width: usize, height: usize) -> Self {
        let ground = draw_ground(rng);
        Self {
            rng,
            width,
            height,
            unit: ((width * height) as f32).sqrt(),
            ground,
            pixels: vec![[0.0; 3]; width * height],
        }
    }

    /// Width of the image in units.
    pub fn width(&self) -> f32 {
        self.width as f32 / self.unit
    }

    /// A number in a range.
    pub fn draw(&mut self, from: f32, to: f32) -> f32 {
        self.rng.random_range(from..to)
    }

    /// A count in a range, both ends included.
    pub fn draw_count(&mut self, from: usize, to: usize) -> usize {
        self.rng.random_range(from..=to)
    }

    /// A colour near the given one.
    pub fn near(&mut self, hex: u32) -> Rgb {
        let jitter: [f32; 3] =
            std::array::from_fn(|_| self.rng.random_range(-COLOR_JITTER..COLOR_JITTER));
        let color = rgb(hex);
        std::array::from_fn(|channel| (color[channel] + jitter[channel]).clamp(0.0, 1.0))
    }

    /// A wavy line around a share of the height, in units.
    pub fn wave(&mut self, down: f32, amplitude: f32, from: f32, to: f32) -> Wave {
        Wave {
            base: down * self.height as f32 / self.unit,
            amplitude,
            frequency: self.draw(from, to),
            phase: self.draw(0.0, 1.0),
        }
    }

    /// Lays a colour over the image, as opaque as `alpha` says in [0, 1].
    pub fn lay(&mut self, color: impl Fn(Point) -> Rgb, alpha: impl Fn(Point) -> f32) {
        for row in 0..self.height {
            for column in 0..self.width {
                let point = Point {
                    x: (column as f32 + 0.5) / self.unit,
                    y: (row as f32 + 0.5) / self.unit,
                    down: (row as f32 + 0.5) / self.height as f32,
                };
                let alpha = alpha(point);
                if alpha > 0.0 {
                    let pixel = &mut self.pixels[row * self.width + column];
                    *pixel = mix(*pixel, color(point), alpha);
                }
            }
        }
    }

    /// One colour everywhere.
    pub fn fill(&mut self, hex: u32) {
        let color = self.near(hex);
        self.pixels.fill(color);
    }

    /// A gradient from the upper edge down to a share of the height, and its last colour below.
    pub fn gradient(&mut self, top: u32, bottom: u32, end: f32) {
        let (top, bottom) = (self.near(top), self.near(bottom));
        self.lay(
            |point| mix(top, bottom, (point.down / end).min(1.0)),
            |_| 1.0,
        );
    }

    /// A gradient between two colours below a line, from the ground to the lower edge.
    pub fn below(&mut self, line: Wave, near: u32, far: u32) {
        let (near, far, ground) = (self.near(near), self.near(far), self.ground);
        let share = |point: Point| ((point.down - ground) / (1.0 - ground)).clamp(0.0, 1.0);
        self.lay(
            |point| mix(near, far, share(point)),
            |point| step(-SOFT, SOFT, point.y - line.at(point.x)),
        );
    }

    /// One colour below a line.
    pub fn flat_below(&mut self, line: Wave, hex: u32) {
        let color = self.near(hex);
        self.lay(
            |_| color,
            |point| step(-SOFT, SOFT, point.y - line.at(point.x)),
        );
    }

    /// A straight line across the image.
    pub fn straight(&self, down: f32) -> Wave {
        Wave {
            base: down * self.height as f32 / self.unit,
            amplitude: 0.0,
            frequency: 0.0,
            phase: 0.0,
        }
    }

    /// White clouds between two shares of the height.
    pub fn clouds(&mut self, count: usize, from: f32, to: f32) {
        /// Circles that a cloud is made of: place and radius, in widths of it.
        const PUFFS: [[f32; 3]; 3] = [[-0.55, 0.1, 0.5], [0.0, -0.12, 0.7], [0.55, 0.08, 0.55]];
        for _ in 0..count {
            let width = self.width();
            let x = self.draw(0.0, width);
            let y = self.draw(from, to) * self.height as f32 / self.unit;
            let size = self.draw(0.12, 0.22);
            self.lay(
                |_| [1.0; 3],
                |point| {
                    let (along, down) = ((point.x - x) / size, 1.7 * (point.y - y) / size);
                    let puffs = PUFFS.iter().map(|[left, top, radius]| {
                        let distance = (along - left).hypot(down - top);
                        1.0 - step(0.75 * radius, 1.1 * radius, distance)
                    });
                    0.85 * puffs.fold(0.0, f32::max)
                },
            );
        }
    }

    /// Round spots: stars, flakes. Radii in units, places above a share of the height.
    pub fn spots(&mut self, count: usize, hex: u32, [least, most]: [f32; 2], above: f32) {
        let color = rgb(hex);
        for _ in 0..count {
            let width = self.width();
            let x = self.draw(0.0, width);
            let y = self.draw(0.0, above) * self.height as f32 / self.unit;
            let radius = self.draw(least, most);
            self.lay(
                |_| color,
                |point| {
                    let distance = (point.x - x).hypot(point.y - y);
                    0.95 * (1.0 - step(0.5 * radius, 1.3 * radius, distance))
                },
            );
        }
    }
}
