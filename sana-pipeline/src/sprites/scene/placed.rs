/// A thing with its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlacedSprite {
    /// Its number in the sheet.
    pub thing: usize,
    /// The middle of its bounding box, in pixels from the upper left corner.
    pub center: (f32, f32),
    /// Width and height before it is turned, in pixels.
    pub extent: (f32, f32),
    /// Turned clockwise by this, in radians.
    pub angle: f32,
    /// Whether it is its mirror image.
    pub mirrored: bool,
    /// Whether it is on the ground and casts a shadow there.
    pub grounded: bool,
}

impl PlacedSprite {
    /// Width and height of what it covers, in pixels.
    pub fn bounding_box(&self) -> (f32, f32) {
        let (sin, cos) = self.angle.abs().sin_cos();
        let (width, height) = self.extent;
        // Things are rounder than their boxes: half of what a turned box would gain.
        let turned = (width * cos + height * sin, height * cos + width * sin);
        ((width + turned.0) / 2.0, (height + turned.1) / 2.0)
    }
}
