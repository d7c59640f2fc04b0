//! The choices a config makes by name.

use std::fmt;

use serde::de::{self, DeserializeOwned, SeqAccess, Visitor, value::StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The kind of block a stage is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockType {
    /// Residual block: two 3x3 convolutions with a residual connection.
    #[serde(rename = "ResBlock")]
    Res,
    /// EfficientViT block: multi-scale linear attention and a GLUMBConv.
    #[serde(rename = "EfficientViTBlock")]
    EfficientVit,
}

/// The norm at the end of a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormType {
    /// RMS norm over channels with scale and shift.
    RmsNorm,
    /// Batch norm with the running statistics of the checkpoint.
    BatchNorm,
}

/// A pointwise non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`, also spelled `swish`.
    #[serde(alias = "swish")]
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// The main path of a halving block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownsampleBlockType {
    /// A 3x3 convolution of stride 2. Published configs spell it `Conv`.
    #[serde(rename = "Conv", alias = "conv")]
    Conv,
    /// A 3x3 convolution to a quarter of the channels, then a pixel unshuffle.
    #[serde(rename = "pixel_unshuffle")]
    PixelUnshuffle,
}

/// The main path of a doubling block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleBlockType {
    /// Nearest-neighbour doubling, then a 3x3 convolution.
    Interpolate,
    /// A 3x3 convolution to four times the channels, then a pixel shuffle.
    PixelShuffle,
}

/// A setting given once for all stages or once for each, as configs may write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PerStage<T> {
    /// The same value everywhere.
    All(T),
    /// One value per stage, the stage of the highest resolution first.
    Each(Vec<T>),
}

impl<T: Copy> PerStage<T> {
    /// The value of a stage, or `None` past the end of the list.
    pub fn get(&self, stage: usize) -> Option<T> {
        match self {
            Self::All(value) => Some(*value),
            Self::Each(values) => values.get(stage).copied(),
        }
    }
}

impl<T: Serialize> Serialize for PerStage<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All(value) => value.serialize(serializer),
            Self::Each(values) => values.serialize(serializer),
        }
    }
}

/// Written by hand, since an untagged enum would not say which value is unknown.
impl<'de, T: DeserializeOwned> Deserialize<'de> for PerStage<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrEach<T>(std::marker::PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for OneOrEach<T> {
            type Value = PerStage<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a name or a list of names, one per stage")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(name)).map(PerStage::All)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = names.next_element()? {
                    values.push(value);
                }
                Ok(PerStage::Each(values))
            }
        }

        deserializer.deserialize_any(OneOrEach(std::marker::PhantomData))
    }
}
