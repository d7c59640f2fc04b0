//! What each backdrop is painted with, as the painter in [`crate::sprites::backdrop`] does it.

use crate::sprites::backdrop::Backdrop;

/// A height in the image: a share of its height, perhaps from where the ground begins, and units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Height {
    from_ground: bool,
    share: f32,
    units: f32,
}

impl Height {
    /// As a share of the image's height; `tall` is that height in units.
    pub fn at(self, ground: f32, tall: f32) -> f32 {
        let start = if self.from_ground { ground } else { 0.0 };
        start + self.share + self.units / tall
    }
}

const fn share(share: f32) -> Height {
    Height {
        from_ground: false,
        share,
        units: 0.0,
    }
}

const fn ground(share: f32, units: f32) -> Height {
    Height {
        from_ground: true,
        share,
        units,
    }
}

const TOP: Height = share(0.0);
const BOTTOM: Height = share(1.0);
/// A line is this soft, in units.
const SOFT: f32 = 0.016;
/// Colours of patches, which the painter varies, are this far from what they are here, at most.
pub(super) const JITTER: f32 = 6.0;

/// One colour or a gradient between two, the same all along a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layer {
    /// The colours at both ends of the gradient.
    pub colors: [u32; 2],
    /// Where the gradient begins and ends.
    pub ramp: [Height; 2],
    /// Where the layer can be seen at all.
    pub rows: [Height; 2],
    /// Where it begins on average.
    pub begins: Height,
}

/// Something on a layer: the colour of the layer, mixed with another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blend {
    pub layer: usize,
    pub toward: u32,
    /// The shares of the other colour.
    pub shares: [f32; 2],
    /// How far the other colour is from what it is here, at most.
    pub jitter: f32,
    pub rows: [Height; 2],
}

/// Patches of any colour between two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patch {
    pub colors: [u32; 2],
    pub rows: [Height; 2],
}

#[derive(Debug, Default)]
pub(super) struct Recipe {
    /// From the upper edge to the lower.
    pub layers: Vec<Layer>,
    pub blends: Vec<Blend>,
    pub patches: Vec<Patch>,
}

impl Recipe {
    /// A gradient from the upper edge to the ground, which begins `lower` lower and waves by `wave`.
    fn upper(mut self, colors: [u32; 2], end: Height, lower: f32, wave: f32) -> Self {
        self.layers.push(Layer {
            colors,
            ramp: [TOP, end],
            rows: [TOP, ground(lower, wave + SOFT)],
            begins: TOP,
        });
        self
    }

    /// A gradient over the ground, below a line that is `lower` lower and waves by `wave`.
    fn lower(mut self, colors: [u32; 2], lower: f32, wave: f32) -> Self {
        self.layers.push(Layer {
            colors,
            ramp: [ground(0.0, 0.0), BOTTOM],
            rows: [ground(lower, -wave - SOFT), BOTTOM],
            begins: ground(lower, 0.0),
        });
        self
    }

    /// One colour between two lines relative to the ground that wave by as much as the second number.
    fn flat(mut self, color: u32, from: (f32, f32), to: (f32, f32)) -> Self {
        self.layers.push(Layer {
            colors: [color; 2],
            ramp: [TOP, BOTTOM],
            rows: [ground(from.0, -from.1 - SOFT), ground(to.0, to.1 + SOFT)],
            begins: ground(from.0, 0.0),
        });
        self
    }

    fn blend(
        mut self,
        layer: usize,
        (toward, jitter): (u32, f32),
        shares: [f32; 2],
        rows: [Height; 2],
    ) -> Self {
        self.blends.push(Blend {
            layer,
            toward,
            shares,
            jitter,
            rows,
        });
        self
    }

    /// A texture of the lowest layer, as large as half the greatest share of a colour: the layer's own
    /// colour is the mean.
    fn texture(self, toward: u32, most: f32) -> Self {
        let shares = [-0.6 * most, most];
        self.blend(1, (toward, 0.0), shares, [ground(-0.01, 0.0), BOTTOM])
    }

    /// Soft edges of patches on a layer.
    fn edges(self, layer: usize, colors: &[u32], rows: [Height; 2]) -> Self {
        colors.iter().fold(self, |recipe, &color| {
            recipe.blend(layer, (color, JITTER), [0.0, 1.0], rows)
        })
    }

    /// Clouds down to a share of the height.
    fn clouds(self, layer: usize, to: f32) -> Self {
        let to = Height {
            from_ground: false,
            share: to,
            units: 0.12,
        };
        self.blend(layer, (0xffffff, 0.0), [0.0, 0.98], [TOP, to])
    }

    fn patches(mut self, colors: [u32; 2], rows: [Height; 2]) -> Self {
        self.patches.push(Patch { colors, rows });
        self
    }

    pub fn of(backdrop: Backdrop) -> Self {
        let recipe = Self::default();
        let edge = ground(0.0, 0.0);
        match backdrop {
            Backdrop::Sky => {
                let mut recipe = recipe.upper([0x5fa8ec, 0xc9e6fb], BOTTOM, 0.0, 0.0);
                recipe.layers[0].rows = [TOP, BOTTOM];
                recipe.clouds(0, 0.92)
            }
            Backdrop::Meadow => recipe
                .upper([0x7fc0f5, 0xd8effc], edge, 0.0, 0.025)
                .lower([0x8fd06a, 0x4f9a3c], 0.0, 0.025)
                .clouds(0, 0.3),
            Backdrop::Sea => recipe
                .upper([0x86c5f2, 0xe4f3fb], edge, 0.0, 0.0)
                .lower([0x3f8fd0, 0x15508f], 0.0, 0.0)
                .clouds(0, 0.3)
                .texture(0x8fc4ea, 0.13),
            Backdrop::Beach => recipe
                .upper([0x7cc7f2, 0xdef3fb], ground(-0.12, 0.0), -0.12, 0.0)
                .flat(0x2fa3c4, (-0.12, 0.0), (-0.018, 0.015))
                .flat(0xf6fbfb, (-0.018, 0.015), (0.0, 0.015))
                .lower([0xf3dfae, 0xdcbc7c], 0.0, 0.015)
                .clouds(0, 0.25),
            Backdrop::Snow => recipe.upper([0x8aa9c9, 0xd5e2ee], edge, 0.0, 0.03).lower(
                [0xfbfdff, 0xcddcea],
                0.0,
                0.03,
            ),
            Backdrop::Night => recipe.upper([0x0b1038, 0x2b3a78], edge, 0.03, 0.03).lower(
                [0x1d2b4a, 0x0c1428],
                0.03,
                0.03,
            ),
            Backdrop::Table => recipe
                .upper([0xe9dcc9, 0xdccbb2], edge, 0.0, 0.0)
                .lower([0xb9793f, 0x8f5526], 0.0, 0.0)
                .texture(0x6b3a14, 0.15),
            Backdrop::Desert => recipe
                .upper([0xf5b76c, 0xfbe3b4], edge, -0.03, 0.04)
                .flat(0xd9944e, (-0.03, 0.04), (0.04, 0.03))
                .lower([0xe8ae62, 0xc98743], 0.04, 0.03),
            Backdrop::Forest => {
                let leaves = Height {
                    from_ground: false,
                    share: 0.0,
                    units: 0.235,
                };
                recipe
                    .upper([0x3f7f5f, 0xa9d3a1], edge, 0.0, 0.0)
                    .lower([0x4d8a45, 0x2b5a2c], 0.0, 0.0)
                    .patches([0x4a3322; 2], [TOP, ground(0.02, SOFT)])
                    .edges(0, &[0x4a3322], [TOP, ground(0.02, SOFT)])
                    .edges(0, &[0x24593a], [TOP, leaves])
                    .patches([0x24593a; 2], [TOP, leaves])
                    .patches([0x4a3322, 0x24593a], [share(0.0), leaves])
                    .edges(1, &[0x4a3322], [ground(0.0, -SOFT), ground(0.02, SOFT)])
            }
            Backdrop::City => {
                // A wall has 0.8 to 1.2 times the light of 0x3b335f.
                let walls = [0x2f294c, 0x3b335f, 0x473d72];
                let rows = [ground(-0.37, 0.0), ground(0.0, SOFT)];
                recipe
                    .upper([0x6d5aa8, 0xf5a57c], edge, 0.0, 0.0)
                    .lower([0x6a6a78, 0x45454f], 0.0, 0.0)
                    .patches([walls[0], walls[2]], rows)
                    .edges(0, &walls, rows)
                    .edges(1, &walls, [ground(0.0, -SOFT), ground(0.0, SOFT)])
            }
            Backdrop::Room => recipe
                .upper([0xcfe3dc, 0xbcd3ca], edge, -0.03, 0.0)
                .flat(0xf7f7f3, (-0.03, 0.0), (0.0, 0.0))
                .lower([0xc99d6c, 0xa87c4e], 0.0, 0.0),
            Backdrop::Underwater => {
                let mut recipe = recipe.upper([0x4cc3da, 0x0b4f86], BOTTOM, 0.0, 0.0);
                let sand = |units| Height {
                    from_ground: false,
                    share: 0.9,
                    units,
                };
                recipe.layers[0].rows = [TOP, sand(0.02 + SOFT)];
                recipe.layers.push(Layer {
                    colors: [0xcdb98a; 2],
                    ramp: [TOP, BOTTOM],
                    rows: [sand(-0.02 - SOFT), BOTTOM],
                    begins: share(0.9),
                });
                recipe.blend(0, (0xd6f4fb, 0.0), [0.0, 0.6], [TOP, sand(0.02)])
            }
            Backdrop::Plain(color) => {
                let mut recipe = recipe.upper([color.rgb(); 2], BOTTOM, 0.0, 0.0);
                recipe.layers[0].rows = [TOP, BOTTOM];
                recipe
            }
        }
    }
}
