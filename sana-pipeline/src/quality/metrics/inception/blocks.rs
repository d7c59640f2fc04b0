//! Convolutions and blocks of Inception-v3 (Szegedy et al. 2016), with torchvision's names inside.

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};

/// Added to variances.
const EPS: f64 = 1e-3;

/// Kernel, stride and padding of a convolution, `[height, width]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvShape {
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
}

impl ConvShape {
    pub fn square(side: usize) -> Self {
        Self::rectangle(side, side)
    }

    fn rectangle(height: usize, width: usize) -> Self {
        Self {
            kernel: [height, width],
            stride: 1,
            padding: [0, 0],
        }
    }

    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Padded so that the size stays.
    pub fn same(self) -> Self {
        Self {
            padding: self.kernel.map(|side| side / 2),
            ..self
        }
    }
}

#[derive(Module, Debug)]
struct Kernel {
    /// `[out, in, height, width]`.
    weight: Param<Tensor<4>>,
}

/// The statistics that each channel is normalised with, and its learnt scale and shift.
#[derive(Module, Debug)]
struct ChannelStatistics {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
}

/// A convolution without bias, batch norm with the statistics of training, ReLU.
#[derive(Module, Debug)]
pub(super) struct Conv {
    conv: Kernel,
    bn: ChannelStatistics,
    #[module(skip)]
    shape: ConvShape,
}

impl Conv {
    pub fn new(from: usize, to: usize, shape: ConvShape, device: &Device) -> Self {
        let [height, width] = shape.kernel;
        let ones = || Initializer::Ones.init([to], device);
        let zeros = || Initializer::Zeros.init([to], device);
        Self {
            conv: Kernel {
                weight: Initializer::Zeros.init([to, from, height, width], device),
            },
            bn: ChannelStatistics {
                weight: ones(),
                bias: zeros(),
                running_mean: zeros(),
                running_var: ones(),
            },
            shape,
        }
    }

    /// The norm is folded into the convolution, which is cheaper than one over its output.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ConvShape {
            stride, padding, ..
        } = self.shape;
        let bn = &self.bn;
        let scale = bn.weight.val() / (bn.running_var.val() + EPS).sqrt();
        let shift = bn.bias.val() - bn.running_mean.val() * scale.clone();
        let [channels] = scale.dims();
        let weight = self.conv.weight.val() * scale.reshape([channels, 1, 1, 1]);
        let options = ConvOptions::new([stride, stride], padding, [1, 1], 1);
        relu(conv2d(x, weight, Some(shift), options))
    }
}

fn conv(from: usize, to: usize, kernel: [usize; 2], device: &Device) -> Conv {
    let [height, width] = kernel;
    Conv::new(from, to, ConvShape::rectangle(height, width).same(), device)
}

fn halving(from: usize, to: usize, device: &Device) -> Conv {
    Conv::new(from, to, ConvShape::square(3).stride(2), device)
}

/// The mean of the 3x3 pixels around each, of those that are in the image.
fn average(x: Tensor<4>) -> Tensor<4> {
    let options = AvgPoolOptions::new([3, 3])
        .with_stride([1, 1])
        .with_padding([1, 1])
        .with_count_include_pad(false);
    avg_pool2d(x, options)
}

/// 35x35.
#[derive(Module, Debug)]
pub(super) struct MixedA {
    branch1x1: Conv,
    branch5x5_1: Conv,
    branch5x5_2: Conv,
    branch3x3dbl_1: Conv,
    branch3x3dbl_2: Conv,
    branch3x3dbl_3: Conv,
    branch_pool: Conv,
}

impl MixedA {
    pub fn new(from: usize, pooled: usize, device: &Device) -> Self {
        Self {
            branch1x1: conv(from, 64, [1, 1], device),
            branch5x5_1: conv(from, 48, [1, 1], device),
            branch5x5_2: conv(48, 64, [5, 5], device),
            branch3x3dbl_1: conv(from, 64, [1, 1], device),
            branch3x3dbl_2: conv(64, 96, [3, 3], device),
            branch3x3dbl_3: conv(96, 96, [3, 3], device),
            branch_pool: conv(from, pooled, [1, 1], device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let five = self
            .branch5x5_2
            .forward(self.branch5x5_1.forward(x.clone()));
        let three = self
            .branch3x3dbl_2
            .forward(self.branch3x3dbl_1.forward(x.clone()));
        let three = self.branch3x3dbl_3.forward(three);
        let one = self.branch1x1.forward(x.clone());
        let pooled = self.branch_pool.forward(average(x));
        Tensor::cat(vec![one, five, three, pooled], 1)
    }
}

/// From 35x35 to 17x17.
#[derive(Module, Debug)]
pub(super) struct MixedB {
    branch3x3: Conv,
    branch3x3dbl_1: Conv,
    branch3x3dbl_2: Conv,
    branch3x3dbl_3: Conv,
}

impl MixedB {
    pub fn new(from: usize, device: &Device) -> Self {
        Self {
            branch3x3: halving(from, 384, device),
            branch3x3dbl_1: conv(from, 64, [1, 1], device),
            branch3x3dbl_2: conv(64, 96, [3, 3], device),
            branch3x3dbl_3: halving(96, 96, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = self
            .branch3x3dbl_2
            .forward(self.branch3x3dbl_1.forward(x.clone()));
        let double = self.branch3x3dbl_3.forward(double);
        let three = self.branch3x3.forward(x.clone());
        let pooled = max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]));
        Tensor::cat(vec![three, double, pooled], 1)
    }
}

/// 17x17.
#[derive(Module, Debug)]
pub(super) struct MixedC {
    branch1x1: Conv,
    branch7x7_1: Conv,
    branch7x7_2: Conv,
    branch7x7_3: Conv,
    branch7x7dbl_1: Conv,
    branch7x7dbl_2: Conv,
    branch7x7dbl_3: Conv,
    branch7x7dbl_4: Conv,
    branch7x7dbl_5: Conv,
    branch_pool: Conv,
}

impl MixedC {
    pub fn new(inner: usize, device: &Device) -> Self {
        Self {
            branch1x1: conv(768, 192, [1, 1], device),
            branch7x7_1: conv(768, inner, [1, 1], device),
            branch7x7_2: conv(inner, inner, [1, 7], device),
            branch7x7_3: conv(inner, 192, [7, 1], device),
            branch7x7dbl_1: conv(768, inner, [1, 1], device),
            branch7x7dbl_2: conv(inner, inner, [7, 1], device),
            branch7x7dbl_3: conv(inner, inner, [1, 7], device),
            branch7x7dbl_4: conv(inner, inner, [7, 1], device),
            branch7x7dbl_5: conv(inner, 192, [1, 7], device),
            branch_pool: conv(768, 192, [1, 1], device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let single = [&self.branch7x7_1, &self.branch7x7_2, &self.branch7x7_3];
        let double = [
            &self.branch7x7dbl_1,
            &self.branch7x7dbl_2,
            &self.branch7x7dbl_3,
            &self.branch7x7dbl_4,
            &self.branch7x7dbl_5,
        ];
        let single = single.iter().fold(x.clone(), |x, conv| conv.forward(x));
        let double = double.iter().fold(x.clone(), |x, conv| conv.forward(x));
        let one = self.branch1x1.forward(x.clone());
        let pooled = self.branch_pool.forward(average(x));
        Tensor::cat(vec![one, single, double, pooled], 1)
    }
}

/// From 17x17 to 8x8.
#[derive(Module, Debug)]
pub(super) struct MixedD {
    branch3x3_1: Conv,
    branch3x3_2: Conv,
    branch7x7x3_1: Conv,
    branch7x7x3_2: Conv,
    branch7x7x3_3: Conv,
    branch7x7x3_4: Conv,
}

impl MixedD {
    pub fn new(device: &Device) -> Self {
        Self {
            branch3x3_1: conv(768, 192, [1, 1], device),
            branch3x3_2: halving(192, 320, device),
            branch7x7x3_1: conv(768, 192, [1, 1], device),
            branch7x7x3_2: conv(192, 192, [1, 7], device),
            branch7x7x3_3: conv(192, 192, [7, 1], device),
            branch7x7x3_4: halving(192, 192, device),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let three = self
            .branch3x3_2
            .forward(self.branch3x3_1.forward(x.clone()));
        let seven = [
            &self.branch7x7x3_1,
            &self.branch7x7x3_2,
            &self.branch7x7x3_3,
            &self.branch7x7x3_4,
        ];
        let seven = seven.iter().fold(x.clone(), |x, conv| conv.forward(x));
        let pooled = max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]));
        Tensor::cat(vec![three, seven, pooled], 1)
    }
}

/// The pool of a block of 8x8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Average,
    Max,
}

/// 8x8.
#[derive(Module, Debug)]
pub(super) struct MixedE {
    branch1x1: Conv,
    branch3x3_1: Conv,
    branch3x3_2a: Conv,
    branch3x3_2b: Conv,
    branch3x3dbl_1: Conv,
    branch3x3dbl_2: Conv,
    branch3x3dbl_3a: Conv,
    branch3x3dbl_3b: Conv,
    branch_pool: Conv,
    #[module(skip)]
    pool: Pool,
}

impl MixedE {
    pub fn new(from: usize, pool: Pool, device: &Device) -> Self {
        Self {
            branch1x1: conv(from, 320, [1, 1], device),
            branch3x3_1: conv(from, 384, [1, 1], device),
            branch3x3_2a: conv(384, 384, [1, 3], device),
            branch3x3_2b: conv(384, 384, [3, 1], device),
            branch3x3dbl_1: conv(from, 448, [1, 1], device),
            branch3x3dbl_2: conv(448, 384, [3, 3], device),
            branch3x3dbl_3a: conv(384, 384, [1, 3], device),
            branch3x3dbl_3b: conv(384, 384, [3, 1], device),
            branch_pool: conv(from, 192, [1, 1], device),
            pool,
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let one = self.branch1x1.forward(x.clone());
        let three = self.branch3x3_1.forward(x.clone());
        let double = self
            .branch3x3dbl_2
            .forward(self.branch3x3dbl_1.forward(x.clone()));
        let pooled = match self.pool {
            Pool::Average => average(x),
            Pool::Max => max_pool2d(
                x,
                MaxPoolOptions::new([3, 3])
                    .with_stride([1, 1])
                    .with_padding([1, 1]),
            ),
        };
        let branches = vec![
            one,
            self.branch3x3_2a.forward(three.clone()),
            self.branch3x3_2b.forward(three),
            self.branch3x3dbl_3a.forward(double.clone()),
            self.branch3x3dbl_3b.forward(double),
            self.branch_pool.forward(pooled),
        ];
        Tensor::cat(branches, 1)
    }
}
