use super::canvas::Canvas;
use super::pieces::Bounds;
use super::templates::Template;

/// Where a thing may be: its middle and longer side in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pose {
    pub center: (f32, f32),
    pub longer: f32,
    pub angle: f32,
    pub mirrored: bool,
}

impl Pose {
    /// The half width and height of what it covers.
    pub fn half(&self, template: &Template) -> (f32, f32) {
        let (sin, cos) = self.angle.abs().sin_cos();
        let (width, height) = template.extent;
        let half = self.longer / 2.0;
        (
            half * (width * cos + height * sin),
            half * (height * cos + width * sin),
        )
    }

    pub fn bounds(&self, template: &Template) -> Bounds {
        Bounds::around(self.center, self.half(template))
    }

    /// Where a pixel is on the thing, in longer sides from its middle.
    pub fn place(&self, (sin, cos): (f32, f32), x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (x - self.center.0, y - self.center.1);
        let along = cos * x + sin * y;
        let along = if self.mirrored { -along } else { along };
        (along / self.longer, (cos * y - sin * x) / self.longer)
    }
}

/// The pixels that a thing covers.
pub(super) fn covered(canvas: &Canvas, template: &Template, pose: &Pose) -> Vec<usize> {
    let level = template.level_for(pose.longer);
    let turn = pose.angle.sin_cos();
    let mut pixels = Vec::new();
    let (columns, rows) = inside(canvas, pose.bounds(template), 1.0);
    for row in rows {
        for column in columns.clone() {
            let (x, y) = pose.place(turn, column as f32 + 0.5, row as f32 + 0.5);
            if template.sample(level, x, y)[3] > 0.3 {
                pixels.push(row * canvas.width + column);
            }
        }
    }
    pixels
}

type Range = std::ops::Range<usize>;

/// How far a box reaches beyond the edge of the image.
pub(super) fn beyond(canvas: &Canvas, bounds: Bounds) -> f32 {
    let right = bounds.right - canvas.width as f32;
    let bottom = bounds.bottom - canvas.height as f32;
    right.max(bottom).max(-bounds.left).max(-bounds.top)
}

/// The columns and rows of a box with a margin, as far as they are in the image.
pub(super) fn inside(canvas: &Canvas, bounds: Bounds, margin: f32) -> (Range, Range) {
    let range = |from: f32, to: f32, end: usize| {
        let from = ((from - margin).floor().max(0.0) as usize).min(end);
        from..((to + margin).ceil().max(0.0) as usize).clamp(from, end)
    };
    (
        range(bounds.left, bounds.right, canvas.width),
        range(bounds.top, bounds.bottom, canvas.height),
    )
}
